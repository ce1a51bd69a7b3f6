"""Graphs of `torch.compile` that are made once, and what the making cost.

What is compiled again goes on, a minute or two later each time, and nothing says so. Here a graph
is made at its first call; where a later call does not fit it, a line says what changed.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from torch import nn

from vitreous.errors import VitreousError

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_AGAIN = 3
"""How often a graph is made again; what fits none of them then runs as it is."""


def can_trace_gradients() -> bool:
    """Whether this torch can trace `torch.autograd.grad` within a graph."""
    return hasattr(torch._dynamo.config, "trace_autograd_ops")


def seconds_compiling() -> float:
    """Seconds that torch spent on compiling in this process, of backward passes too."""
    return torch._dynamo.utils.calculate_time_spent()["total_wall_time"]


@dataclasses.dataclass
class Compilation:
    """What a run compiled.

    Attributes:
        strict: A graph that would be made again is an error.
        quiet: Say nothing: another process does.
        graphs: Name → how often the graph was made.
        eager: Name → why it could not be made, so that it runs as it is.
        started: Seconds that were spent on compiling before.
    """

    strict: bool = False
    quiet: bool = False
    graphs: dict[str, int] = dataclasses.field(default_factory=dict)
    eager: dict[str, str] = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=seconds_compiling)

    @property
    def seconds(self) -> float:
        """Seconds spent on compiling in this run."""
        return seconds_compiling() - self.started

    def values(self) -> dict[str, object]:
        """Seconds, graphs and what is none, to be stored."""
        told: dict[str, object] = {"seconds": round(self.seconds, 1), "graphs": dict(self.graphs)}
        return told | ({"uncompiled": dict(self.eager)} if self.eager else {})

    def __str__(self) -> str:
        made = ", ".join(self.graphs) or "nothing"
        return f"compiled in {self.seconds:.1f} s: {made}"

    def warn(self, line: str) -> None:
        """Say a line, by one of several processes."""
        if not self.quiet:
            logger.warning(line)


class Graph:
    """A module compiled into a graph at its first call, and no second time unnoticed.

    Args:
        name: What it is, for the user.
        module: What is compiled.
        log: Of the run.
        whole: It must be one graph; else what torch cannot trace may break it.
        required: Where torch cannot make it, that is an error; else the module runs as it is.
        rows_vary: The graph holds for any number of rows from 2 on.

    Attributes:
        module: The compiled module; it may be wrapped before it is called.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        log: Compilation,
        *,
        whole: bool = True,
        required: bool = False,
        rows_vary: bool = False,
    ):
        self.name, self.log, self.whole, self.required = name, log, whole, required
        own: dict[str, Any] = {}
        if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
            own["isolate_recompiles"] = True  # other runs of this process do not count for it
        dynamic = None if rows_vary else False
        self.module = cast(
            nn.Module, torch.compile(module, fullgraph=whole, dynamic=dynamic, **own)
        )

    def __call__(self, call: Callable[[], T]) -> T:
        """Make a call of the module, wrapped if need be.

        Raises:
            VitreousError: If the graph is required and cannot be made, or would be made again
                and the recipe is strict.
        """
        if self.name in self.log.eager:
            return uncompiled(call)
        made, errors = self.log.graphs.get(self.name, 0), _errors()
        try:
            with self._settings(error_on_recompile=made > 0):
                result = call()
        except errors.RecompileError as error:
            return self._again(call, _reason(error))
        except errors.TorchDynamoException as error:
            if made:
                raise
            return self._without(call, str(error).strip().split("\n")[0])
        self.log.graphs[self.name] = max(made, 1)
        return result

    def _again(self, call: Callable[[], T], reason: str) -> T:
        made, line = self.log.graphs[self.name], f"training.compile: the graph of the {self.name}"
        if self.log.strict:
            raise VitreousError(
                f"{line} would be made again: {reason}; set training.compile true to let it be"
            )
        if made > MOST_AGAIN:
            self.log.eager[self.name] = reason
            self.log.warn(f"{line} was made {made} times; it runs uncompiled from here: {reason}")
            return uncompiled(call)
        before = seconds_compiling()
        with self._settings(error_on_recompile=False):
            result = call()
        self.log.graphs[self.name] = made + 1
        took = seconds_compiling() - before
        self.log.warn(f"{line} was made again, in {took:.1f} s: {reason}")
        return result

    def _without(self, call: Callable[[], T], reason: str) -> T:
        if self.required:
            raise VitreousError(
                f"training.compile: the {self.name} of this model cannot be one graph: {reason}; "
                "set training.compile false"
            )
        self.log.eager[self.name] = reason
        self.log.warn(f"training.compile: the {self.name} runs uncompiled: {reason}")
        return uncompiled(call)

    @contextmanager
    def _settings(self, error_on_recompile: bool) -> Generator[None]:
        chosen: dict[str, Any] = {"error_on_recompile": error_on_recompile}
        if self.whole and can_trace_gradients():
            # A graph that holds a backward pass cannot be cut into the buckets of processes.
            chosen |= {"trace_autograd_ops": True, "optimize_ddp": False}
        with torch._dynamo.config.patch(chosen):
            yield


def uncompiled(call: Callable[[], T]) -> T:
    """Make a call of a compiled module without its graph."""
    with _as_is():
        return call()


def _errors() -> ModuleType:
    """The errors of torch's tracing, which take a second to import."""
    return importlib.import_module("torch._dynamo.exc")


def _as_is() -> AbstractContextManager[None]:
    return torch.compiler.set_stance("force_eager")


def _reason(error: Exception) -> str:
    """What failed of each graph that there is: `tensor 'x' size mismatch … expected 4, …`."""
    lines = [line.strip() for line in str(error).splitlines()]
    guards = [re.match(r"- \d+/\d+: (.*?)(\s+#|$)", line) for line in lines]
    failed = [guard[1] for guard in guards if guard]
    return "; ".join(dict.fromkeys(failed)) or lines[0]
