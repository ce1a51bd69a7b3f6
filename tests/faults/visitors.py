"""Visitors of a served page, over the network: right calls, wrong ones, those of other sites."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

WRONG: tuple[list[Any], ...] = ([], [1, 2, 3], [{"path": "/etc/hostname"}] * 8, ["x"] * 20)
"""Values of calls that no page of ours makes."""


def post(url: str, body: bytes, kind: str = "application/json") -> str:
    """Send a request and read its answer."""
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def status(url: str, **headers: str) -> int:
    """The status of a request with these headers."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def upload(url: str, name: str, content: bytes) -> str:
    """Send a file; returns where the page keeps it."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    return json.loads(post(f"{url}gradio_api/upload", body, "multipart/form-data; boundary=x"))[0]


def ask(url: str, values: list[Any]) -> str:
    """Call the page by name; returns the events that it answers with."""
    call = f"{url}gradio_api/call/explain"
    event = json.loads(post(call, json.dumps({"data": values}).encode()))["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=120) as stream:
        return stream.read().decode()


@contextlib.contextmanager
def served(place: Path, log: Any, *options: str, **environment: str) -> Iterator[Any]:
    """Serve the page in a process of its own; gives the process and its address."""
    command = [sys.executable, "-m", "vitreous.cli", "app", "model", *options]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=log, text=True, env=environment or None
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[1]
        finally:
            process.terminate()
            process.wait(timeout=60)


def visit(url: str, root: Path, number: int) -> None:
    """One visitor: every third sends no picture, every fifth what does not fit."""
    name = "images/class_0/0.png" if number % 3 else "recipe.yaml"
    # No two pictures are the same file to the page: each is kept, and deleted after its time.
    kept = upload(url, "x.png", (root / name).read_bytes() + os.urandom(8))
    file = {"path": kept, "meta": {"_type": "gradio.FileData"}}
    values: list[Any] = [file, 0, ["model"], ["rollout"], 15 * (number % 24), 1, 2, {}]
    answer = ask(url, WRONG[number % len(WRONG)] if number % 5 == 4 else values)
    if number % 3 and number % 5 != 4:
        assert "event: complete" in answer and "Explained" in answer, answer[:300]
    assert status(url, Host="other.example") == 403


def load(url: str, root: Path, visits: int, together: int = 4) -> None:
    """Let visitors come, some of them at the same time."""
    with ThreadPoolExecutor(together) as pool:
        for done in [pool.submit(visit, url, root, number) for number in range(visits)]:
            done.result()
