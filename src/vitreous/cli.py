"""The `vitreous` command: a table of commands, each a small dataclass in `vitreous.commands`."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from vitreous.allocator import keep_freed_memory
from vitreous.errors import InterruptedRun, VitreousError, nearest, printable, shorten

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


KEPT = "what was finished is kept: run the same command again"
DEAD_READER = (
    f"a process that reads images died, perhaps for want of memory; {KEPT}, with fewer workers"
)
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory", re.IGNORECASE)


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
    _show_every_name()
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
            raise VitreousError(f"unknown command '{shorten(name)}'; {nearest(name, COMMANDS)}")
        with ended_as_by_hand():
            return run(name, rest)
    except VitreousError as error:
        print(f"vitreous: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 141
    except (OSError, MemoryError, RuntimeError) as error:
        if not (line := trouble(error)):
            raise
        print(f"vitreous: {line}", file=sys.stderr)
        return 1
    except InterruptedRun as stop:
        _tell_stop(str(stop), stop)
        return stop.status
    except KeyboardInterrupt as stop:
        _tell_stop("interrupted; what was finished is kept", stop)
        return 130


def script() -> NoReturn:
    """The command of a terminal: `main`, then out, as soon as all that was to be done is done.

    Python frees what torch and its compiler left object by object, which takes longer than many a
    command. The operating system frees it at once.
    """
    keep_freed_memory()
    try:
        status = main()
    except BrokenPipeError:  # who reads has enough: `vitreous --help | head -1`
        status = 141
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _show_every_name() -> None:
    """Let what a terminal cannot show, as names of files that are no UTF-8, be printed in escapes.

    Else a print ends the command, wherever it stands, with all of the work done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def ended_as_by_hand() -> Generator[None]:
    """Let SIGTERM end a command as Ctrl-C does: with one line, and without what is half-written.

    A training has its own way (`vitreous.training.interrupt`), and so has the app.
    """
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise InterruptedRun(f"ended by a signal; {KEPT}", 128 + number)
        signal.signal(number, signal.SIG_DFL)  # a forked process that reads images
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows no handlers
        return
    before, hook = signal.signal(signal.SIGTERM, end), sys.unraisablehook

    def told(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            hook(lost)

    sys.unraisablehook = told  # a stop that comes while readers are let go
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook


def _tell_stop(line: str, stop: BaseException) -> None:
    """Say how a command was stopped, and let go of what it held; more Ctrl-C change nothing."""
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main_thread else None
    print(f"vitreous: {line}", file=sys.stderr)
    stop.__traceback__ = stop.__context__ = stop.__cause__ = None  # reading processes end here
    gc.collect()
    if before is not None:
        signal.signal(signal.SIGINT, before)


def trouble(error: Exception) -> str:
    """What befell the machine and not the program, in one line; empty for what is neither.

    Input is checked where it enters, and writes where they are made. Here is what may come at any
    place: a disk or a share that goes away, a file that others delete, memory that ends.
    """
    if isinstance(error, OSError):
        named = f"{printable(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{named}{error.strerror or error}; {KEPT}" if error.errno else ""
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        return f"memory is used up; {KEPT}, with smaller batches or fewer workers"
    # torch raises it by a signal, wherever the program is when a reading process dies.
    return DEAD_READER if "DataLoader worker" in str(error) else ""


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
    from vitreous.folders import removed_if_empty

    command = read_command(name, arguments)
    started = time.perf_counter()
    first = os.environ.get("RANK", "0") == "0"
    quiet = contextlib.nullcontext() if first else contextlib.redirect_stdout(io.StringIO())
    with removed_if_empty(), quiet:
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
    script()
