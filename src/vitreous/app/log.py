"""What the log of the page says of a call that failed: one line, not a stack trace.

gradio prints the stack of every call that does not fit (too few values, an unknown name), uvicorn
that of a request that gradio cannot answer; anybody who reaches the page could fill the log.
"""

from __future__ import annotations

import sys
from typing import Any

from vitreous.app.gate import App, Message, Receive, Scope, Send
from vitreous.errors import require, shorten

Blocks = Any
"""gradio's class of pages: the library is an extra, what it makes has no types here."""


def print_line(error: Exception) -> None:
    """Say in a line of the log which call failed."""
    text = " ".join(str(error).split())
    print(f"a call failed: {type(error).__name__}: {shorten(text)}", file=sys.stderr)


def quiet_blocks() -> type[Blocks]:
    """Make the class of pages whose failed calls are a line of the log.

    Returns:
        A `gradio.Blocks` that answers a call that fails with an error of gradio's own kind, which
        is told without its stack.
    """
    gradio = require("gradio", "app")

    class QuietBlocks(gradio.Blocks):
        async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
            try:
                return await super().process_api(*arguments, **options)
            except gradio.Error:
                raise
            except Exception as error:
                print_line(error)
                said = "This call could not be answered."
                raise gradio.Error(said, print_exception=False) from error

    return QuietBlocks


class OneLine:
    """An ASGI application in front of another: what fails in it is status 500 and a line.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http":
                raise
            print_line(error)
            if not begun:
                head = [(b"content-type", b"text/plain; charset=utf-8")]
                await send({"type": "http.response.start", "status": 500, "headers": head})
                body = b"this call could not be answered\n"
                await send({"type": "http.response.body", "body": body})
