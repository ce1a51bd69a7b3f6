"""One writer at a time in a folder: a lock that tells who holds it, and that dies with its holder.

The lock is the operating system's (`lockf`, which network file systems share among machines), on
`.vitreous.lock`; the file's text says who holds it. Where a file system has no locks, the text
alone decides, and a holder of this machine that has died is told by its process number.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

from vitreous.disk import alive, writing
from vitreous.errors import VitreousError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".vitreous.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
_held: dict[Path, int] = {}


class FolderInUse(VitreousError):
    """Another process writes to the folder."""


@contextlib.contextmanager
def folder_lock(
    folder: str | os.PathLike[str], purpose: str, *, main: bool = True
) -> Generator[None]:
    """Hold a folder while writing to it; released at the end, and when the process dies.

    It may be taken again inside the block by the same process.

    Args:
        folder: The folder; made where it is missing.
        purpose: What is done there, for the message to a second writer, for example `training`.
        main: Whether this is the process that holds it; the others of one launch pass.

    Raises:
        FolderInUse: If another process holds it; says which, where and since when.
        VitreousError: If the folder cannot be written.
    """
    if not main:
        yield
        return
    path = (Path(folder) / LOCK).resolve()
    if path in _held:
        _held[path] += 1
        handle = -1
    else:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = _take(path, purpose)
        _held[path] = 1
    holder = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == holder:  # a forked worker that ends here holds nothing
            _release(path, handle)


def _take(path: Path, purpose: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            if _same(handle, path):
                _sign(handle, purpose)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed the file in between


def _lock(handle: int, path: Path) -> None:
    if fcntl is not None:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise FolderInUse(_refusal(path, _read(handle))) from error
            if error.errno not in NO_LOCKS:
                raise
    holder = _read(handle)
    if holder and not _dead(holder):
        raise FolderInUse(f"{_refusal(path, holder)}; if that is over, delete {path}")


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(handle: int, purpose: str) -> None:
    about = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "purpose": purpose,
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(about).encode(), 0)


def _read(handle: int) -> dict[str, object]:
    try:
        about = json.loads(os.pread(handle, 4096, 0))
    except (ValueError, OSError):
        return {}
    return about if isinstance(about, dict) else {}


def _dead(holder: dict[str, object]) -> bool:
    process = holder.get("process")
    here = holder.get("host") == socket.gethostname()
    return here and isinstance(process, int) and not alive(process)


def _refusal(path: Path, holder: dict[str, object]) -> str:
    who = (
        "process {process} on {host} ({purpose}, since {since})".format_map(holder)
        if {"process", "host", "purpose", "since"} <= holder.keys()
        else "another process"
    )
    return f"{path.parent} is in use by {who}; wait until it ends, or choose another --out"


def _release(path: Path, handle: int) -> None:
    _held[path] -= 1
    if _held[path]:
        return
    del _held[path]
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)  # before it is let go, so that nobody's is removed
    with contextlib.suppress(OSError):
        os.close(handle)
