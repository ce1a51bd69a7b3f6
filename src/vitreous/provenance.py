"""Where a measurement comes from: the command, the model, the moment, the machine, the versions."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from vitreous.fingerprint import digest

PACKAGES = ("vitreous", "torch", "torchvision", "timm", "numpy")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How the records of one call came about.

    Attributes:
        kind: The command: `train`, `evaluate`, `attack`, `brain score`, `demo`, …
        model: Name of the model that was measured.
        fingerprint: Its `vitreous.models.fingerprint.model_fingerprint`.
        command: The whole command line.
        seed: Seed of what is random in it.
        when: When it ended, ISO 8601, UTC.
        seconds: How long it took.
        hardware: As `hardware()` describes it.
        versions: Package → version, and `python`.
    """

    kind: str = ""
    model: str = ""
    fingerprint: str = ""
    command: str = ""
    seed: int | None = None
    when: str = ""
    seconds: float | None = None
    hardware: Mapping[str, object] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Short name of this provenance inside a file."""
        return digest(dataclasses.asdict(self))[:8]


def provenance(
    kind: str,
    *,
    model: str = "",
    fingerprint: str = "",
    seed: int | None = None,
    seconds: float | None = None,
) -> Provenance:
    """Provenance of what this process has just measured.

    Args:
        kind: The command.
        model: Name of the model.
        fingerprint: Its fingerprint.
        seed: Seed of what is random.
        seconds: Duration.
    """
    return Provenance(
        kind=kind,
        model=model,
        fingerprint=fingerprint,
        command=command_line(sys.argv),
        seed=seed,
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=None if seconds is None else round(seconds, 1),
        hardware=hardware(),
        versions=versions(),
    )


def command_line(arguments: list[str]) -> str:
    """What was typed, without the folder of the program; `-m vitreous.cli` is `vitreous`."""
    program = Path(arguments[0])
    ours = program.parts[-2:] == ("vitreous", "cli.py")
    return shlex.join(["vitreous" if ours else program.name, *arguments[1:]])


def versions() -> dict[str, str]:
    """Versions of what computes; a package that is not installed is left out."""
    known = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return known


def hardware() -> dict[str, object]:
    """Describe this machine: `processor`, `cores`, `memory_gb`, `torch_threads`, `gpu`.

    `gpu` is a list of `{name, memory_gb}`, left out where there is none; so is a memory that the
    system does not tell. Sizes are in GiB.
    """
    import torch

    described: dict[str, object] = {"processor": processor(), "cores": os.cpu_count()}
    if (memory := memory_bytes()) is not None:
        described["memory_gb"] = round(memory / 2**30, 1)
    described["torch_threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        described["gpu"] = [
            {"name": c.name, "memory_gb": round(c.total_memory / 2**30, 1)} for c in cards
        ]
    return described


def processor() -> str:
    """Name of the processor, as its maker calls it where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return " ".join(value.split())
    return _apple_processor() or platform.processor() or platform.machine()


def _apple_processor() -> str:
    if sys.platform != "darwin":
        return ""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def memory_bytes() -> int | None:
    """Memory of the machine, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def hardware_text(described: Mapping[str, Any]) -> str:
    """Write a description of a machine in one line."""
    parts = [str(described.get("processor", ""))]
    if (cores := described.get("cores")) is not None:
        parts.append(f"{cores} cores")
    if (memory := described.get("memory_gb")) is not None:
        parts.append(f"{memory:g} GiB")
    if (threads := described.get("torch_threads")) is not None:
        parts.append(f"{threads} torch thread" + ("s" if threads != 1 else ""))
    for card in described.get("gpu") or ():
        parts.append(f"{card.get('name')} ({card.get('memory_gb'):g} GiB)")
    return ", ".join(part for part in parts if part)
