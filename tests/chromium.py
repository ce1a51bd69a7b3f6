"""A headless Chromium for tests, driven over its DevTools pipe by Python alone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)
# Chromium reads commands from descriptor 3 and answers on descriptor 4.
LAUNCHER = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One tab: what it logged, which hosts it asked for, and what one can do with it."""

    def __init__(self, to: int, back: int):
        self._to, self._back, self._rest, self._count = to, back, b"", 0
        self._session: str | None = None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method and wait for its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self._read(end)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)
        raise TimeoutError(method)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._back], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            self._rest += os.read(self._back, 1 << 20)
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"].get("exception", parameters)))
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])
        if event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.problems.append(str(parameters["args"]))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression (a promise is awaited)."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        poll = f"""new Promise(done => {{ const start = Date.now(); const look = () =>
            ({expression}) ? done(true) : Date.now() - start > 2000 ? done(false)
            : setTimeout(look, 50); look(); }})"""
        while not self.evaluate(poll):
            assert time.monotonic() < end, f"waited in vain for {expression}"

    def view(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window and the preferred colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def choose_file(self, selector: str, path: Path) -> None:
        """Put a file into an input of the page."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> Path:
        """Write what the window shows as a PNG."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))
        return path


def check_card(page: Page, card: Path, width: int, dark: bool, shot: Path) -> None:
    """Open a card: all of it is drawn and fits, in the colours asked for, without an error."""
    page.view(width, dark=dark)
    page.open(card.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert page.evaluate("document.images.length") > 50
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect()"
        ".width * (s.querySelectorAll('path,use,image').length > 0))"
    )
    assert len(sizes) >= 8 and min(sizes) > 150
    with Image.open(page.screenshot(shot)) as seen:
        corner = np.asarray(seen.convert("L"))[-1, 0]
    assert (corner < 60) == dark
    assert page.problems == []
    assert not [r for r in page.requests if not r.startswith(("file:", "data:"))]


@contextlib.contextmanager
def open_page(profile: Path) -> Iterator[Page]:
    """Start Chromium with an empty profile and yield a tab; skips where there is none."""
    program = next((p for n in NAMES if (p := shutil.which(n))), None)
    if program is None:
        pytest.skip("needs Chromium (apt-get install chromium), which is not installed here")
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    command = [program, *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(read_in), str(write_out), *command],
        pass_fds=(read_in, write_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_in)
    os.close(write_out)
    try:
        yield Page(write_in, read_out)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(write_in)
        os.close(read_out)
