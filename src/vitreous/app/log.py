"""What the log of the page says of a call that failed: one line, not gradio's stack traces.

gradio prints the stack of every call that does not fit (another number of values, a name that it
does not know), also of those that the page never makes; anybody who reaches it could fill the log.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

from vitreous.errors import require, shorten

MODULES = ("gradio.queueing", "gradio.routes", "gradio.route_utils")


def print_line() -> None:
    """Say in a line which exception is being handled."""
    kind, error, _ = sys.exc_info()
    text = " ".join(str(error).split())
    print(f"a call failed: {kind.__name__ if kind else ''}: {shorten(text)}", file=sys.stderr)


def quiet_traces() -> None:
    """Let gradio's own modules print a line where they print a stack trace."""
    for name in MODULES:
        module = require(name, "app")
        if hasattr(module, "traceback"):
            plain = vars(module.traceback) if hasattr(module.traceback, "__dict__") else {}
            replaced = SimpleNamespace(**{**plain, "print_exc": lambda *_, **__: print_line()})
            setattr(module, "traceback", replaced)  # noqa: B010  (an attribute of a module)
