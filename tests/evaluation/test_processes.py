"""Two real processes evaluate what one does: the same records, no picture twice."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import write_squares
from vitreous.models import load_model, save_model
from vitreous.results import UNKNOWN, Results

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def evaluate(root: Path, out: str, *launcher: str) -> Results:
    """Run the command in processes of its own; returns its results."""
    command = [sys.executable, "-W", "ignore", "-m", *launcher, "vitreous.cli", "evaluate"]
    command += [str(root / "model"), "--data", str(root / "images"), "--out", str(root / out)]
    command += ["--rotation", "90", "--noise", "3", "--workers", "0", "--batch-size", "2"]
    command += ["--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Results.read(root / out)


def test_two_processes_give_the_records_of_one(tmp_path: Path) -> None:
    root = write_squares(tmp_path, 7)
    (root / "images/c0/broken.png").write_bytes(b"not a picture")
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=2, image_size=32, **TINY
    )
    model.class_names = ["c0", "c1"]
    save_model(model, root / "model")
    one = evaluate(root, "one")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    two = evaluate(root, "two", *launcher)
    assert {r.n for r in one.records if r.metric == "top1"} == {8}
    assert len(two.records) == len(one.records)
    for other, record in zip(two.records, one.records):
        # Batches of other pictures round otherwise: only what counts pictures is exact.
        tolerance = 1e-6 if record.metric in {"nll", "ece"} else 0.0
        assert other.value == pytest.approx(record.value, abs=tolerance)
        blank = {"value": 0.0, "ci95": None, "provenance": UNKNOWN}
        assert dataclasses.replace(other, **blank) == dataclasses.replace(record, **blank)
    (entry,) = {repr(r.extra["evaluation"]["images"]["unreadable"]) for r in (one, two)}
    assert "broken.png" in entry
