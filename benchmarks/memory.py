"""Peak memory of a call beyond what was there before it, whatever was called before it.

What a process once freed it may keep, and a call that finds it there asks the system for nothing:
measured so, the second of two alternatives would seem to need less. Therefore what is free is given
back first and the system's mark of the highest is set back; then only what the call itself needs
raises it. On a GPU it is the allocator's own count. Memory is measured apart from time.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
UNKNOWN = float("nan")
# Alone in its process, so that what is inherited is small: a program begins with the peak of the
# one that starts it.
STARTER = """
import os, resource, subprocess, sys, json
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
unit = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss / unit]))
"""


def resident(field: str = "VmRSS") -> float:
    """MiB that this process holds (`VmHWM`: held at most since it began, or since `reset`)."""
    if not STATUS.is_file():
        return UNKNOWN
    line = next(x for x in STATUS.read_text("ascii").splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def high_water(device: str = "cpu") -> float:
    """MiB held at most: by this process, or on a GPU by the allocator."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident("VmHWM")


def reset(device: str = "cpu") -> float:
    """Give back what is free, forget the peak; returns the MiB that are held now."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
        CLEAR.write_text("5", "ascii")  # sets VmHWM back: proc(5)
    except (AttributeError, OSError, TypeError):  # another system
        return UNKNOWN
    return resident()


def peak(call: Callable[[], object], device: str = "cpu") -> float:
    """MiB that a call needs beyond what was there before; NaN where the system cannot tell.

    Call it once before, so that what is loaded once (libraries, the optimiser's state) is not
    counted for whoever comes first.
    """
    before = reset(device)
    result = call()
    del result
    return high_water(device) - before


def peaks(work: Mapping[str, Callable[[], object]], device: str = "cpu") -> dict[str, float]:
    """`peak` of each alternative."""
    return {name: peak(call, device) for name, call in work.items()}


def peak_of_command(line: list[str]) -> float:
    """MiB that a command holds at most, or the largest of its children.

    Raises:
        RuntimeError: If it fails.
    """
    program = [sys.executable, "-I", "-c", STARTER, *line]
    told = subprocess.run(program, check=True, capture_output=True, text=True)
    status, mebibytes = json.loads(told.stdout)
    if status:
        raise RuntimeError(f"{' '.join(line)} ended with {status}: {told.stderr[-2000:]}")
    return mebibytes
