"""A PostgreSQL server of a test's own: Debian's binaries, a folder in /tmp, the loopback alone."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

USERS = ("postgres", "nobody")


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    other = shutil.which("initdb")
    return found[-1].parent if found else Path(other).parent if other else None


def unprivileged() -> str | None:
    """The user to run as, where this one is root, which the server refuses."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a server; yields its URL. Skips, with a word, where there is none or no driver."""
    folder, psycopg = binaries(), pytest.importorskip("psycopg")
    if folder is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = unprivileged()
    place = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if user is not None:
        shutil.chown(place, user)
    run = {"user": user, "cwd": place, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    data, name = place / "data", user or pwd.getpwuid(os.geteuid()).pw_name
    start = [folder / "initdb", "-D", data, "-A", "trust", "-U", name, "--no-sync"]
    subprocess.run(start, check=True, **run)
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={place}"]
    server = subprocess.Popen(
        [folder / "postgres", "-D", data, "-p", str(port), "-F", *options], **run
    )
    url = f"postgresql://{name}@127.0.0.1:{port}/postgres"
    try:
        while True:
            assert server.poll() is None, "the server ended"
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(url).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown, which ends connections
        server.wait()
        shutil.rmtree(place)
