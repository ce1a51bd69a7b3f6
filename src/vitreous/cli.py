"""The `vitreous` command: a table of commands, each a small dataclass in `vitreous.commands`."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

from vitreous.errors import InterruptedRun, VitreousError, nearest

if TYPE_CHECKING:
    from vitreous.commands.parsing import Runnable

COMMANDS = {
    "explain": "show what a model looks at in a picture",
    "mask": "make foreground masks, from pictures or from other formats",
    "train": "train or finetune a model from a recipe",
    "sweep": "search settings of a recipe",
    "evaluate": "measure accuracy and explanations on test sets",
    "attack": "measure robustness under attack",
    "brain": "score a model against the primate visual system",
    "report": "write the card of one model or of several",
    "app": "open a local page to compare what models look at",
    "demo": "see all of it, small, offline, in minutes",
    "export": "write a model for timm, Hugging Face or ONNX",
}


DEAD_READER = (
    "a process that reads images died, perhaps for want of memory; what was finished is kept: run "
    "the same command again, with fewer workers"
)


def overview() -> str:
    """Text of `vitreous --help`."""
    lines = [f"  {name:<10} {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vitreous COMMAND [OPTIONS]",
            "",
            "Vision Transformers that look at the right thing.",
            "",
            *lines,
            "",
            "`vitreous COMMAND --help` shows options and an example; start with `vitreous demo`.",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (1 for a user's mistake, told in one line)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"vitreous {version('vitreous')}")
        return 0
    warnings.simplefilter("once", FutureWarning)
    warnings.formatwarning = _one_line  # ty: ignore[invalid-assignment]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise VitreousError(f"unknown command '{name}'; {nearest(name, COMMANDS)}")
        return run(name, rest)
    except VitreousError as error:
        print(f"vitreous: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        # torch raises it by a signal, wherever the program is when a reading process dies.
        if "DataLoader worker" not in str(error):
            raise
        print(f"vitreous: {DEAD_READER}", file=sys.stderr)
        return 1
    except InterruptedRun as stop:
        print(f"vitreous: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("vitreous: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning without the place in the code that gave it."""
    return f"warning: {message}\n"


RENAMED_OPTIONS = {
    "--picture": "--image",
    "--strips": "--panels",
    "--step": "--step-size",
    "--pca-pictures": "--pca-images",
}


def current_options(arguments: list[str]) -> list[str]:
    """Give options of older versions their present names, with a warning that tells them."""
    from vitreous.config import warn_renamed

    present = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in RENAMED_OPTIONS:
            warn_renamed(option, RENAMED_OPTIONS[option])
            argument = RENAMED_OPTIONS[option] + equals + value
        present.append(argument)
    return present


def run(name: str, arguments: list[str]) -> int:
    """Parse a command's arguments and run it; returns the exit status."""
    command = read_command(name, arguments)
    started = time.perf_counter()
    first = os.environ.get("RANK", "0") == "0"
    with contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO()):
        status = command.run() or 0
    if first:
        print(f"done in {duration(time.perf_counter() - started)}", file=sys.stderr)
    return int(status)


def read_command(name: str, arguments: list[str]) -> Runnable:
    """Build a command, one of `vitreous.commands`, from its arguments."""
    from vitreous.commands.parsing import parse

    arguments = current_options(arguments)
    module = importlib.import_module(f"vitreous.commands.{name}")
    choose = vars(module).get("command_type")
    kind = module.Command if choose is None else choose(arguments)
    return parse(kind, arguments, f"vitreous {name}", module.__doc__)


def duration(seconds: float) -> str:
    """Seconds in words: `3.2 s`, `4 min 7 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


if __name__ == "__main__":
    sys.exit(main())
