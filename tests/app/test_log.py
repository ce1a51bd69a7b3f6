"""What fails behind the page is status 500 and a line of the log, not a stack trace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vitreous.app.log import OneLine


def answered(app: Any, kind: str = "http") -> list[dict[str, Any]]:
    """What is sent for one request."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> None: ...

    asyncio.run(OneLine(app)({"type": kind}, receive, send))
    return sent


START = {"type": "http.response.start", "status": 200, "headers": []}


def failing(error: Exception, *before: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in before:
            await send(message)
        raise error

    return app


def test_what_fails_before_its_answer_begins_is_status_500_and_a_line(capsys):
    start, body = answered(failing(KeyError("a\nb" * 100)))
    assert (start["type"], start["status"]) == ("http.response.start", 500)
    assert body["body"] == b"this call could not be answered\n"
    said = capsys.readouterr().err
    assert said.startswith("a call failed: KeyError: ") and said.count("\n") == 1
    assert len(said) < 100 and "Traceback" not in said


def test_what_fails_in_the_middle_of_its_answer_is_a_line_and_no_second_answer(capsys):
    assert answered(failing(ValueError("half"), START)) == [START]
    assert capsys.readouterr().err == "a call failed: ValueError: half\n"


def test_what_does_not_fail_is_passed_on_as_it_is(capsys):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})

    assert answered(app) == [START, {"type": "http.response.body", "body": b"x"}]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_what_is_no_request_ends_as_the_server_expects_it(kind):
    with pytest.raises(RuntimeError, match="stop"):
        answered(failing(RuntimeError("stop")), kind)
