"""Open a local page: drop an image and compare what models look at.

Turn the image, attack it, click a class to explain it. The page listens on this machine's
loopback only unless --host says otherwise, and fetches nothing from the network.

Example:
    vitreous app runs/before runs/after
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vitreous.app.gate import LOOPBACK, WILDCARDS
from vitreous.commands.options import DeviceOption, quick_imports, resolve_device
from vitreous.errors import VitreousError, require
from vitreous.ranges import at_least

if TYPE_CHECKING:
    from vitreous.models import Classifier


@dataclasses.dataclass(kw_only=True)
class Command(DeviceOption):
    """Settings of `vitreous app`."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, folders of weights or names of timm, one to six."""
    host: str = "127.0.0.1"
    """Address to listen on; another than the loopback opens the page to your network."""
    port: Annotated[int, at_least(1, at_most=65535)] = 7860
    """Port; the next free one if it is taken."""
    allowed_hosts: tuple[str, ...] = ()
    """Other names by which the page may be called, for example that of a proxy before it."""
    pretrained: bool = True
    """Whether names of timm bring their weights."""
    share: bool = False
    """Ask gradio for a public address too: images then pass through a machine of theirs, and
    whoever has the address can use the page."""
    open: bool = False
    """Open the page in the browser."""

    def run(self) -> None:
        """Serve the page until interrupted."""
        if not 1 <= len(self.models) <= 6:
            raise VitreousError(f"give one to six models, found {len(self.models)}")
        models = self._load()
        require("gradio", "app")
        with quick_imports():
            from vitreous.app.page import build, launch

        # An end by a signal is an end too: what visitors sent is removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        page = build(models)
        with contextlib.redirect_stdout(io.StringIO()):  # gradio tells a failed share in ten lines
            _, url, public = launch(
                page,
                host=self.host,
                port=free_port(self.host, self.port),
                allowed_hosts=self.allowed_hosts,
                share=self.share,
                inbrowser=self.open,
                prevent_thread_lock=True,
            )
        print(f"page: {url}  (stop it with Ctrl+C)")
        if public:
            print(f"public page: {public}")
        elif self.share:
            print("no public page: gradio's servers gave no address; is there a network?")
        print(self.visibility(bool(public)), flush=True)
        page.block_thread()

    def visibility(self, public: bool = False) -> str:
        """Who can reach the page (from the internet where it is public), and what of others."""
        if public:
            who = "open to the internet: whoever has the public address can use this page"
        elif self.host in LOOPBACK:
            return "open to programs and users of this machine only"
        elif self.host in WILDCARDS:
            who = "open to your network: whoever reaches this machine can use this page"
        else:
            who = f"open to your network: whoever reaches {self.host} can use this page"
        return f"{who}, without a password; nobody is shown another visitor's pictures"

    def _load(self) -> dict[str, Classifier]:
        from vitreous.models import load_model

        device = resolve_device(self.device)
        loaded: dict[str, Classifier] = {}
        for name in self.models:
            model = load_model(name, pretrained=self.pretrained, device=device)
            shown = Path(name).name if Path(name).exists() else name
            while shown in loaded:
                shown += "′"
            loaded[shown] = model
        return loaded


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, min(first + 50, 65536)):
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
