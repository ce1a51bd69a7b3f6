"""Start a command in real processes, joined by gloo on the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

INSIDE = Path(__file__).with_name("inside.py")


@dataclasses.dataclass(frozen=True)
class Launch:
    """What came of a command in several processes.

    Attributes:
        code: Exit code of the launcher: 0 if every process ended with 0.
        messages: What they wrote to the standard error stream.
        seen: Processes that Accelerate saw, in each.
        written: Files that each wrote.
    """

    code: int
    messages: str
    seen: list[int | None]
    written: list[set[Path]]

    def written_in(self, folder: Path) -> list[set[Path]]:
        """Files in a folder that each process wrote, temporary ones (`.NAME`) left out."""
        return [
            {p for p in paths if p.is_relative_to(folder) and not p.name.startswith(".")}
            for paths in self.written
        ]


def launch(notes: Path, *command: str, processes: int = 2) -> Launch:
    """Run `vitreous COMMAND…` in some processes under torchrun.

    Args:
        notes: A folder to be made, where each process leaves what it saw.
        command: The command line.
        processes: How many.
    """
    notes.mkdir(parents=True)
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program += ["--nproc-per-node", str(processes), str(INSIDE), str(processes), str(notes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*program, *command], capture_output=True, text=True, env=environment, check=False
    )
    told = [json.loads(p.read_text()) for p in sorted(notes.glob("*.json"))]
    written = [{Path(p) for p in one["written"]} for one in told]
    return Launch(done.returncode, done.stderr, [one["processes"] for one in told], written)
