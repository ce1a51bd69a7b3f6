"""Train with a real tracker, offline, and tell the images that it kept.

    pip install mlflow
    python tests/training/real_trackers.py mlflow --out /tmp/tried

Not a part of the tests: the packages are many, and pin versions of each other's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.training import Recipe, train


def main() -> None:
    """Train two steps in a new folder, whose tracker keeps everything below it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tracker")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    os.chdir(given.out)
    place = Path.cwd()
    os.environ.update(
        CLEARML_CACHE_DIR=str(place / "clearml"),
        CLEARML_OFFLINE_MODE="1",
        COMET_API_KEY="none",
        COMET_OFFLINE_DIRECTORY=str(place / "comet"),
        COMET_START_ONLINE="0",
        MLFLOW_TRACKING_URI=f"sqlite:///{place}/mlflow.db",
        SWANLAB_MODE="offline",
        TRACKIO_DIR=str(place / "trackio"),
        WANDB_MODE="offline",
    )
    write_masked_set(place / "set")
    training = {"epochs": 1, "batch_size": 6, "samples": 3, "trackers": [given.tracker]}
    values = tiny_recipe(place / "set", training=training)
    train(build(Recipe, values), place / "run", quiet=True)
    ours = {place / "set", place / "run" / "samples"}
    kept = [p for p in place.rglob("*") if p.suffix in {".png", ".jpeg", ".webp", ".zip", ".sst"}]
    for path in sorted(p for p in kept if not ours & set(p.parents)):
        print(path.relative_to(place), path.stat().st_size)


if __name__ == "__main__":
    main()
