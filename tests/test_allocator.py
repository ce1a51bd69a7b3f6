"""Memory that is freed is kept: pages are asked for once, not at each pass."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from vitreous.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else None
import torch
layers = torch.nn.Sequential(*[torch.nn.GELU() for _ in range(8)])
block = torch.ones(12 * 2**20)  # 48 MiB: more than glibc ever keeps by itself
def passes(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with torch.inference_mode():
        for _ in range(count):
            layers(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
passes(4)
print(kept, passes(4))
"""
PAGES = 4 * 8 * 48 * 2**20 // 4096
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUN", "LD_PR"))}


def run(how: str, **environment: str) -> tuple[str, int]:
    """What was said, and how many pages four passes through eight layers had to ask for."""
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=CLEAN | environment
    )
    said, pages = done.stdout.split()
    return said, int(pages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a matter of glibc")
def test_freed_memory_is_kept():
    said, pages = run("not kept")
    huge = pages < PAGES / 100  # pages are of another size, or the C library is another
    said, kept = run("kept")
    if said == "False" or huge:
        pytest.skip("not glibc, or pages are large")
    assert said == "True"
    assert pages >= PAGES * 0.9
    assert kept < PAGES / 10


def test_who_says_how_memory_is_kept_is_heard():
    said, _ = run("kept", MALLOC_TRIM_THRESHOLD_="100000")
    assert said == "False"


def test_the_command_keeps_memory_and_main_does_not(monkeypatch):
    from vitreous import cli

    called = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: called.append(True))
    monkeypatch.setattr(sys, "argv", ["vitreous", "--version"])
    assert cli.main(["--version"]) == 0
    assert not called  # a program that calls it owns its process itself

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(cli.os, "_exit", end)
    monkeypatch.setattr(cli.atexit, "_run_exitfuncs", lambda: None)
    with pytest.raises(SystemExit):
        cli.script()
    assert called
