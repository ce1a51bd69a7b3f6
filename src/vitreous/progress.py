"""Progress for people: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

EVERY = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left{postfix}"


class ProgressBar(tqdm):
    """A bar of tqdm's that writes whole lines where standard error is no terminal.

    Args:
        *arguments: Of tqdm; the iterable first, if any.
        quiet: Show nothing.
        **settings: Of tqdm: `total`, `desc`, `unit`, `initial`, `leave`.
    """

    def __init__(self, *arguments: Any, quiet: bool = False, **settings: Any):
        self.plain = not sys.stderr.isatty()
        if self.plain:
            every = {"mininterval": EVERY, "maxinterval": EVERY, "delay": EVERY}
            settings |= {**every, "miniters": 1, "bar_format": LINE, "leave": False}
        self.written = time.monotonic()
        super().__init__(*arguments, disable=quiet, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool | None:
        """Draw the bar over itself, or write the next line of the log."""
        if not self.plain:
            return super().display(msg, pos)
        # A figure that changes asks for a line, too: it waits for the next.
        if msg != "" and time.monotonic() - self.written >= EVERY:
            self.written = time.monotonic()
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return None

    def close(self) -> None:
        """End; a log has all of its lines already."""
        if self.plain:
            self.disable = True
        super().close()
