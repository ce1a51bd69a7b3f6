"""What can go wrong when a file is written, told in one line with advice that fits the cause."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import tempfile
import time
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

from vitreous.errors import VitreousError

UNCHANGED = "what was there before is unchanged"
ELSEWHERE = "choose a folder in which you may write, or change its permissions"
ADVICE = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "your quota is used up: free some space or choose another folder",
    errno.EFBIG: "files are limited in size here (ulimit -f, or the file system): raise the limit "
    "or choose another folder",
    errno.EROFS: "this file system is read-only: choose another folder",
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "a folder has that name: choose another name, or a file inside it",
    errno.ENOTDIR: "a file stands where a folder is needed: choose another folder",
    errno.EEXIST: "a file stands where a folder is needed: choose another folder",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n) or use fewer workers",
}
# Writers that are not Python's tell of the disk in words alone (safetensors, HDF5, torch's zip).
NUMBERED = re.compile(r"(?:os error|errno =|\[Errno) ?(\d+)")
TORCH_WRITER = re.compile(r"inline_container|PytorchStreamWriter|iostream error")
TEMPORARY = re.compile(r"\.vitreous-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[a-z0-9_]{8}(\.\w+)?")
ABANDONED = 3600.0


@contextlib.contextmanager
def writing(target: Path) -> Generator[None]:
    """Turn what a failed write raises into one line that names the file, the cause and a way out.

    An error that does not come of the disk passes through, and so does a stop by hand.

    Args:
        target: The file or folder that is written.

    Raises:
        VitreousError: If it cannot be written.
    """
    try:
        yield
    except VitreousError:
        raise
    except Exception as error:
        for cause in _causes(error):  # torch's writer fails where it is stopped
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
        number = _number(error, target.parent)
        if number is None:
            raise
        raise VitreousError(f"cannot write {target}: {_told(error, number, target)}") from error


def _told(error: BaseException, number: int, target: Path) -> str:
    advice = ADVICE.get(number, "choose another place")
    named = getattr(error, "filename", None)
    other = isinstance(named, str) and target.parent not in (Path(named), Path(named).parent)
    at = f" ({named})" if other else ""
    return f"{os.strerror(number)}{at}; {advice}; {UNCHANGED}"


def _number(error: BaseException, folder: Path) -> int | None:
    """The system's number of the failure, as far as the writer tells; None where it is no write."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if match := NUMBERED.search(str(error)):
        return int(match[1])
    if TORCH_WRITER.search(str(error)):
        numbers = (e.errno for e in _causes(error) if isinstance(e, OSError) and e.errno)
        return next(numbers, None) or _try(folder)
    return _try(folder) if isinstance(error, OSError) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _try(folder: Path) -> int:
    """Write a little to learn why a writer that does not say failed; a limit of size is left."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        return error.errno or errno.ENOSPC
    return errno.EFBIG


def temporary_path(target: Path) -> Path:
    """Make an empty file beside a target, to be renamed onto it.

    Its name tells host and process, so that `tidy` knows which are abandoned, and is short
    whatever the target's is.
    """
    suffix = target.suffix if re.fullmatch(r"\.\w{1,12}", target.suffix, re.ASCII) else ""
    prefix = f".vitreous-{_host()}-{os.getpid()}-"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=suffix)
    os.close(handle)
    return Path(name)


def tidy(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed processes left half-written; what a living one writes stays.

    Args:
        folder: Where to look.
        deep: Look in the folders below it too.
    """
    for path in folder.rglob(".vitreous-*") if deep else folder.glob(".vitreous-*"):
        match = TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink() and _abandoned(path, match):
            with contextlib.suppress(OSError):
                path.unlink()


def _abandoned(path: Path, match: re.Match[str]) -> bool:
    if match["host"] == _host():
        return not alive(int(match["process"]))
    try:
        return time.time() - path.stat().st_mtime > ABANDONED
    except OSError:
        return False


def alive(process: int) -> bool:
    """Whether a process of this machine runs; assumed where the system cannot be asked."""
    if os.name == "nt":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
