"""One of several processes of a command: runs it, and notes what it saw and what it wrote.

Started by `launch.py`: `inside.py WORLD NOTES COMMAND…`. The world that the environment tells must
be WORLD; `NOTES/RANK.json` gets the processes that Accelerate saw and the files that were opened
for writing, or moved to their place, by this process.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR


def main() -> int:
    """Run the command in this process."""
    world, notes, *command = sys.argv[1:]
    assert os.environ["WORLD_SIZE"] == world, os.environ["WORLD_SIZE"]
    written: set[str] = set()

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path, mode, flags = arguments
            if (flags & WRITING) or (mode and set(mode) & set("wax+")):
                written.add(os.path.abspath(path))
        elif event == "os.rename":
            written.add(os.path.abspath(arguments[1]))

    sys.addaudithook(note)
    warnings.simplefilter("ignore")
    from accelerate import PartialState

    from vitreous.cli import main as run

    code = run(command)
    seen = {
        "processes": PartialState._shared_state.get("num_processes"),
        "written": sorted(written),
    }
    Path(notes, f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
    return code


if __name__ == "__main__":
    sys.exit(main())
