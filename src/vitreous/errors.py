"""Errors that a user can act on: one line with what was found, what was expected, what to do."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Sequence
from types import ModuleType

SHORT_LIST = 12


class VitreousError(Exception):
    """A user's mistake, or a limit of what is supported; the command line prints it as one line.

    Examples:
        >>> import vitreous
        >>> try:
        ...     vitreous.load_model("vit_tiny_patch16_2244", pretrained=False)
        ... except VitreousError as error:
        ...     print(error)
        unknown model 'vit_tiny_patch16_2244'; did you mean 'vit_tiny_patch16_224'?
    """


class UnsupportedModelError(VitreousError):
    """A relevance method does not hold for this model family."""


class ImageError(VitreousError):
    """An image or mask that cannot be read."""


class InputSizeError(VitreousError, ValueError):
    """Images are of a size that a network does not take."""


class CheckpointError(VitreousError):
    """Weights that cannot be read, or that belong to another architecture."""


class MissingKeysError(VitreousError):
    """Settings that have no default and were not given.

    Attributes:
        keys: Their dotted keys.
    """

    def __init__(self, keys: Sequence[str], advice: str = ""):
        self.keys = tuple(keys)
        names = ", ".join(f"'{key}'" for key in self.keys)
        what = ("key", "it has") if len(self.keys) == 1 else ("keys", "they have")
        super().__init__(f"missing {what[0]} {names}: {what[1]} no default{advice}")


def printable(path: str | bytes | os.PathLike[str]) -> str:
    r"""Spell a file name so that it can be printed and written: what is not UTF-8 as `\xff`."""
    return os.fsencode(path).decode(errors="backslashreplace")


class DivergedError(VitreousError):
    """A training whose loss is no longer finite."""


class InterruptedRun(KeyboardInterrupt):
    """A run that was asked to stop and has saved where it stands.

    Attributes:
        status: Exit status of the command: 128 and the number of the signal.
    """

    def __init__(self, message: str, status: int = 130):
        super().__init__(message)
        self.status = status


def nearest(name: str, valid: Iterable[str]) -> str:
    """Phrase the valid name closest to `name`; where none is close, list the names if they are few.

    Of many names, the three nearest are given: a line is to be read.
    """
    names = sorted({str(v) for v in valid})
    close = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    if not names:
        return "there are no valid names here"
    if len(names) <= SHORT_LIST:
        return f"valid names are: {', '.join(names)}"
    near = difflib.get_close_matches(name[:100], names, n=3, cutoff=0.0)
    return f"the nearest of {len(names)} valid names are: {', '.join(near)}"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Args:
        module: Name to import, for example `"cv2"`.
        extra: The extra of this package that installs it, for example `"masks"`.

    Raises:
        VitreousError: If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise VitreousError(
            f"'{module}' is not installed (missing module '{error.name}'); it comes with the "
            f"extra '{extra}': pip install 'vitreous[{extra}]'"
        ) from error


def shorten(value: object) -> str:
    """A value as text of at most 60 characters, for messages."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
