"""One of several processes: runs commands in turn, and notes what each saw and what it wrote.

Started by `launch.py`: `inside.py NOTES`. `NOTES/plan.json` says how many processes there must be,
and lists the commands, each with a port of its own where the processes meet, and the rank and step
(of another command: the pass through the model) at which this launch is to die, if any.
`NOTES/RANK.json` gets what came of each.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR
written: set[str] = set()


def note(event: str, arguments: tuple) -> None:
    """Keep the files that are opened for writing, or moved to their place."""
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        path, mode, flags = arguments
        if (flags & WRITING) or (mode and set(mode) & set("wax+")):
            written.add(os.path.abspath(path))
    elif event == "os.rename":
        written.add(os.path.abspath(arguments[1]))


def die_at(step: int) -> None:
    """Let this process die, without a word to the others, before a step of a training."""
    from vitreous.training.engine import Trainer

    own = Trainer.step

    def dying(self: Any, *arguments: Any) -> Any:
        if self.progress.step == step:
            os._exit(9)
        return own(self, *arguments)

    Trainer.step = dying


def die_before_pass(number: int) -> None:
    """Let this process die, without a word to the others, before a pass through the model."""
    from vitreous.models import Classifier

    own, made = Classifier.forward, 0

    def dying(self: Any, *arguments: Any) -> Any:
        nonlocal made
        made += 1
        if made > number:
            os._exit(9)
        return own(self, *arguments)

    Classifier.forward = dying


def run(planned: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a group of its own."""
    import torch.distributed as dist
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    from vitreous.cli import main as command

    os.environ["MASTER_PORT"] = str(planned["port"])
    if planned["dies"] and planned["dies"][0] == int(os.environ["RANK"]):
        die = die_at if planned["command"][0] == "train" else die_before_pass
        die(planned["dies"][1])
    written.clear()
    code = command(planned["command"])
    seen = PartialState._shared_state.get("num_processes")
    if dist.is_initialized():
        dist.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    return {"code": code, "processes": seen, "written": sorted(written)}


def main() -> int:
    """Run all commands in this process."""
    notes = Path(sys.argv[1])
    plan = json.loads((notes / "plan.json").read_text())
    assert os.environ["WORLD_SIZE"] == str(plan["processes"]), os.environ["WORLD_SIZE"]
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    sys.addaudithook(note)
    warnings.simplefilter("ignore")
    done = []
    for planned in plan["commands"]:
        done.append(run(planned))
        (notes / f"{os.environ['RANK']}.json").write_text(json.dumps(done))
    return max(came["code"] for came in done)


if __name__ == "__main__":
    sys.exit(main())
