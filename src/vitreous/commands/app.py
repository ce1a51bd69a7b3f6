"""Open a local page: drop a picture and compare what models look at.

Turn the picture, attack it, click a class to explain it. The page listens on this machine's
loopback only unless --host says otherwise, and fetches nothing from the network.

Example:
    vitreous app runs/before runs/after
"""

from __future__ import annotations

import dataclasses
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import tyro

from vitreous.app.page import build, launch
from vitreous.errors import VitreousError, require
from vitreous.models import Classifier, load_model

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass
class Command:
    """Settings of `vitreous app`."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, folders of weights or names of timm, one to six."""
    host: str = "127.0.0.1"
    """Address to listen on; another than the loopback opens the page to your network."""
    port: int = 7860
    """Port; the next free one if it is taken."""
    device: str = "cpu"
    """Where the models run, for example cuda."""
    pretrained: bool = True
    """Whether names of timm bring their weights."""
    open: bool = False
    """Open the page in the browser."""

    def run(self) -> None:
        """Serve the page until interrupted."""
        if not 1 <= len(self.models) <= 6:
            raise VitreousError(f"give one to six models, found {len(self.models)}")
        require("gradio", "app")
        # An end by a signal is an end too: what visitors sent is removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        page = build(self._load())
        if self.host not in LOOPBACK:
            print(f"open to your network: anyone who reaches {self.host} can use this page")
        _, url, _ = launch(
            page,
            host=self.host,
            port=free_port(self.host, self.port),
            inbrowser=self.open,
            prevent_thread_lock=True,
        )
        print(f"page: {url}  (stop it with Ctrl+C)", flush=True)
        page.block_thread()

    def _load(self) -> dict[str, Classifier]:
        loaded: dict[str, Classifier] = {}
        for name in self.models:
            model = load_model(name, pretrained=self.pretrained, device=self.device)
            shown = Path(name).name if Path(name).exists() else name
            while shown in loaded:
                shown += "′"
            loaded[shown] = model
        return loaded


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, first + 50):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError as error:
                raise VitreousError(f"port {port} is not allowed; choose another") from error
            except OSError:
                continue
            return port
    raise VitreousError(f"no free port from {first} to {first + 49} on {host}; choose another")
