"""Who may call the page: requests that name the host it listens on, and no page of another site.

A site that a visitor has open can point its own name at this machine (DNS rebinding) or call it
across sites; in both cases the browser tells the other site's name in `Host` or `Origin`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
WILDCARDS = {"0.0.0.0", "::", ""}
Message = MutableMapping[str, object]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def allowed(name: str | None, host: str, more: Collection[str] = ()) -> bool:
    """Whether a request may call the page by a name.

    Args:
        name: Host name or address without the port.
        host: What the page listens on. On the loopback, only its own names; on all addresses,
            any address (no other site's page can claim one) and this machine's name.
        more: Other names by which the page may be called, for example that of a proxy before it;
            one that begins with a dot stands for all names that end in it.
    """
    if not name:
        return False
    if any(name.endswith(other) if other.startswith(".") else name == other for other in more):
        return True
    if host in LOOPBACK:
        return name in LOOPBACK
    if host not in WILDCARDS:
        return name == host
    return name in {*LOOPBACK, socket.gethostname().lower()} or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Gate:
    """An ASGI application in front of another: refuses calls of other sites with status 403.

    Args:
        app: The application behind it.
        host: What the page listens on.
        allowed_hosts: Other names by which the page may be called.
    """

    def __init__(self, app: App, host: str, allowed_hosts: Iterable[str] = ()):
        self.app, self.host = app, host
        self.allowed_hosts = {name.lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket") or self._may(scope.get("headers", ())):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            head = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            body = b"this page answers only by the name that it listens on\n"
            await send({"type": "http.response.body", "body": body})

    def _may(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        named = [("//" if k == b"host" else "", v) for k, v in headers if k in (b"host", b"origin")]
        return any(slashes for slashes, _ in named) and all(
            allowed(_name(slashes + value.decode("latin-1")), self.host, self.allowed_hosts)
            for slashes, value in named
        )


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
