"""The hub that timm's weights come from, asked only where it can be reached."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from urllib.parse import urlsplit
from urllib.request import getproxies

from vitreous.errors import VitreousError

PATIENCE = 3.0


def reachable(address: str, seconds: float = PATIENCE) -> bool:
    """Whether a server answers; assumed where a proxy stands between."""
    url = urlsplit(address)
    if getproxies().get(url.scheme):
        return True
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        with socket.create_connection((url.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def hub_or_cache() -> Generator[None]:
    """Let timm fetch weights, or read its local cache alone where the hub cannot be reached.

    By itself the hub's client tries again and again for a minute, also for weights that it has.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@contextlib.contextmanager
def fetched(name: str) -> Generator[None]:
    """Let a library fetch the weights of a name, or read its cache where there is no network.

    Raises:
        VitreousError: If they are neither there nor to be had.
    """
    try:
        with hub_or_cache():
            yield
    except (OSError, RuntimeError) as error:
        raise VitreousError(
            f"the weights of {name} are not in the local cache and could not be fetched "
            f"({type(error).__name__}); connect once, or give a checkpoint file"
        ) from error
