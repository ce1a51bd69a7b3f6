"""Stopping a run: a signal finishes the step, a second Ctrl-C ends at once.

SIGTERM, SIGUSR1 and SIGUSR2 are what clusters send before a time limit or a preemption; they may
come more than once, from the cluster and from the launcher, and never cost the step.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

import torch
from accelerate import Accelerator

from vitreous.errors import InterruptedRun

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(signal.Signals[name] for name in NAMES if hasattr(signal, name))


class StopRequest:
    """A context in which signals are noted instead of ending the process.

    Worker processes that are forked inside it leave the signals to their parent. Off the main
    thread, where Python allows no handlers, nothing changes. Within another such context, what came
    too late for the inner one is left to the outer, and what the outer has noted stops the inner.

    Attributes:
        signal: The signal that came, None before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.signal(kind, self._note) for kind in SIGNALS}
        if (outer := self._outer()) is not None and self.signal is None:
            self.signal = outer.signal
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for known, handler in self._before.items():
            signal.signal(known, handler)
        if (outer := self._outer()) is not None and self.signal is not None:
            outer.signal = self.signal

    def _outer(self) -> StopRequest | None:
        """The context around this one."""
        outer = getattr(self._before.get(signal.SIGTERM), "__self__", None)
        return outer if isinstance(outer, StopRequest) else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        launched = "TORCHELASTIC_RUN_ID" in os.environ  # torchrun hands on what all have got
        if self.signal is not None and (number != signal.SIGINT or launched):
            return
        if self.signal is not None:
            raise InterruptedRun("stopped at once; what was saved before is kept", 128 + number)
        self.signal = number
        once_more = "" if launched else "; Ctrl-C once more stops at once and loses it"
        print(f"stopping after this step{once_more}", file=sys.stderr, flush=True)

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; all of a run's must call it together."""
        asked = self.signal is not None
        if accelerator.num_processes == 1:
            return asked
        votes = torch.tensor(float(asked), device=accelerator.device)
        return bool(accelerator.reduce(votes, "sum") > 0)

    def stopped(self, where: str) -> InterruptedRun:
        """What ends the run, once its state is saved.

        Args:
            where: How far the run is and where it is saved.
        """
        number = self.signal or int(signal.SIGINT)
        return InterruptedRun(f"{where}; the same command goes on from there", 128 + number)
