"""Who works on which trial of a sweep: locks that end with their holder.

On one machine they are files beside the study. Where machines share a PostgreSQL database they are
the database's own (advisory locks of a connection), so that a worker that is killed, or whose
machine is taken away, holds nothing any more, wherever it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock, Timeout

from vitreous.errors import require

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Connection

PATIENCE = 300.0  # seconds that a question waits for a file that is locked; 5 by default
POSTGRESQL = ("postgresql://", "postgresql+psycopg://")
# A machine that is switched off says nothing: after a minute of silence its locks are free.
KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}


class Locks(Protocol):
    """What the workers of a sweep agree by."""

    def study(self) -> AbstractContextManager[object]:
        """Hold the study while a trial is chosen; waits for others."""
        ...

    def trial(self, number: int) -> AbstractContextManager[object] | None:
        """Hold a trial, from now until the context ends; None if a living worker has it."""
        ...

    def can_tell(self, host: str) -> bool:
        """Whether a worker on a host would be known to have died."""
        ...

    def close(self) -> None:
        """Let go of what is held and of what it is held by."""
        ...


class FileLocks:
    """Locks of files in the folder of a sweep.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def study(self) -> AbstractContextManager[object]:
        """See `Locks`."""
        return FileLock(self.folder / ".study.lock")

    def trial(self, number: int) -> AbstractContextManager[object] | None:
        """See `Locks`."""
        lock = FileLock(self.folder / f".trial_{number:04d}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return _released(lock)

    def can_tell(self, host: str) -> bool:
        """See `Locks`: only of this machine's."""
        return host == socket.gethostname()

    def close(self) -> None:
        """See `Locks`: each file is let go by itself."""


@contextlib.contextmanager
def _released(lock: FileLock) -> Generator[None]:
    try:
        yield
    finally:
        lock.release()


class DatabaseLocks:
    """Advisory locks of PostgreSQL, held by one connection for as long as this worker lives.

    Args:
        url: Of the database, as SQLAlchemy takes it.
        study: Name of the study.
    """

    def __init__(self, url: str, study: str):
        from sqlalchemy import create_engine

        self.name = study
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self.connection: Connection = engine.connect()
        for setting, value in KEEPALIVE.items():
            self.connection.exec_driver_sql(f"SET {setting} = {value}")

    def study(self) -> AbstractContextManager[object]:
        """See `Locks`."""
        key = self._key("study")
        self._call("pg_advisory_lock", key)
        return self._held(key)

    def trial(self, number: int) -> AbstractContextManager[object] | None:
        """See `Locks`."""
        key = self._key(f"trial {number}")
        return self._held(key) if self._call("pg_try_advisory_lock", key) else None

    def can_tell(self, host: str) -> bool:
        """See `Locks`: of all, since the database sees their connections end."""
        return True

    def close(self) -> None:
        """See `Locks`."""
        self.connection.close()
        self.connection.engine.dispose()

    @contextlib.contextmanager
    def _held(self, key: int) -> Generator[None]:
        try:
            yield
        finally:
            self._call("pg_advisory_unlock", key)

    def _call(self, function: str, key: int) -> object:
        return self.connection.exec_driver_sql(f"SELECT {function}({key})").scalar()

    def _key(self, what: str) -> int:
        text = f"vitreous {self.name} {what}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def database_url(storage: str) -> str:
    """The URL of a study's database, of PostgreSQL with the driver that is installed with us."""
    if not storage.startswith(POSTGRESQL):
        return storage
    require("psycopg", "postgresql")
    return "postgresql+psycopg://" + storage.partition("://")[2]


def open_storage(storage: str | None, folder: Path) -> BaseStorage:
    """What Optuna keeps a study in: a SQLite file in the folder where no URL is given.

    Connections end with each question: workers train for hours between two, and one that Optuna
    keeps would stay open until Python ends.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    url = database_url(storage or f"sqlite:///{folder / 'study.db'}")
    # A worker that is suspended in the middle of a write holds SQLite's lock: others wait for it.
    patience = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs={"poolclass": NullPool, **patience})


def make_locks(storage: str | None, study: str, folder: Path) -> Locks:
    """The locks of a sweep: the database's where it is PostgreSQL, else files in the folder."""
    if storage is not None and storage.startswith(POSTGRESQL):
        return DatabaseLocks(database_url(storage), study)
    return FileLocks(folder)
