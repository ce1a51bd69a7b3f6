"""Calls of other sites are refused; the page's own are not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitreous.app.gate import Gate
from vitreous.app.uploads import open_upload
from vitreous.errors import ImageError


def status(
    host: str, headers: dict[str, str], kind: str = "http", more: tuple[str, ...] = ()
) -> int:
    sent: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> None: ...

    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    asyncio.run(Gate(inner, host, more)({"type": kind, "headers": pairs}, receive, send))
    return sent[0].get("status", sent[0].get("code"))


@pytest.mark.parametrize(
    ("host", "headers", "expected"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:7860"}, 200),
        ("127.0.0.1", {"host": "localhost:7860", "origin": "http://localhost:7860"}, 200),
        ("127.0.0.1", {"host": "[::1]:7860"}, 200),
        ("127.0.0.1", {"host": "evil.example:7860"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1:7860", "origin": "https://evil.example"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1:7860", "origin": "null"}, 403),
        ("127.0.0.1", {"host": "127.0.0.1.evil.example"}, 403),
        ("127.0.0.1", {"origin": "http://127.0.0.1:7860"}, 403),
        ("127.0.0.1", {"host": "[broken"}, 403),
        ("0.0.0.0", {"host": "192.168.1.7:7860"}, 200),
        ("0.0.0.0", {"host": "evil.example"}, 403),
        ("192.168.1.7", {"host": "192.168.1.7:7860"}, 200),
        ("192.168.1.7", {"host": "127.0.0.1:7860"}, 403),
    ],
)
def test_only_the_host_that_it_listens_on_is_answered(host, headers, expected):
    assert status(host, headers) == expected


def test_another_name_is_answered_where_it_was_allowed_and_no_other():
    behind = {"host": "Lab.Example", "origin": "https://lab.example"}
    assert status("127.0.0.1", behind) == 403
    assert status("127.0.0.1", behind, more=("LAB.example",)) == 200
    assert status("127.0.0.1", {"host": "lab.example.org"}, more=("lab.example",)) == 403
    assert status("127.0.0.1", {**behind, "origin": "https://evil"}, more=("lab.example",)) == 403


def test_sockets_of_other_sites_are_closed():
    assert status("127.0.0.1", {"host": "evil.example"}, "websocket") == 1008


def test_a_small_file_that_decodes_to_much_is_refused_before_it_does(tmp_path: Path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((6300, 6300), np.uint16)).save(path)
    assert path.stat().st_size < 200_000
    with pytest.raises(ImageError, match=r"deep.png would take \d+ MB to decode"):
        open_upload(path)
