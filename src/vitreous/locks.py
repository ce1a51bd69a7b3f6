"""One writer at a time in a folder: a lock that tells who holds it, and that dies with its holder.

The lock is the operating system's (`lockf`, which network file systems share among machines; on
Windows `locking`, of one byte far behind the text), on `.vitreous.lock`; the file's text says who
holds it. Where a file system has no locks, the text alone decides, and a holder of this machine
that has died is told by its process number.
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
try:
    import msvcrt
except ImportError:
    msvcrt = None

LOCK = ".vitreous.lock"
LOCKED_BYTE = 1 << 30
HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
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
    try:
        if _lock_by_system(handle):
            return
    except OSError as error:
        if error.errno in HELD:
            raise FolderInUse(_refusal(path, _read(handle))) from error
        if error.errno not in NO_LOCKS:
            raise
    holder = _read(handle)
    if holder and not _dead(holder):
        raise FolderInUse(f"{_refusal(path, holder)}; if that is over, delete {path}")


def _lock_by_system(handle: int) -> bool:
    """Ask the system for the lock; False where it offers none. Raises OSError if it is held."""
    if fcntl is not None:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    elif msvcrt is not None:
        os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # ty: ignore[missing-attribute]
    return fcntl is not None or msvcrt is not None


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
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(about).encode())


def _read(handle: int) -> dict[str, object]:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        about = json.loads(os.read(handle, 4096))
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
        os.ftruncate(handle, 0)  # where an open file cannot be removed, an empty one stays
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)  # before it is let go, so that nobody's is removed
    with contextlib.suppress(OSError):
        os.close(handle)
