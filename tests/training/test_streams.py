"""Tar shards and Hugging Face datasets, masks in them, train what the same files train."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_recipe, write_hugging_face, write_masked_set, write_tar_shards
from vitreous.config import build
from vitreous.training import Recipe
from vitreous.training.engine import Trainer, train
from vitreous.training.run import RunFolder

FORMS = {"tar": write_tar_shards, "arrow": write_hugging_face}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set some of whose images have masks."""
    write_masked_set(tmp_path / "set")
    for mask in sorted((tmp_path / "set" / "masks").rglob("*.png"))[::3]:
        mask.unlink()
    return tmp_path / "set"


def recipe(images: Path, masks: Path | None, **training: Any) -> Recipe:
    own = {"epochs": 2, "batch_size": 5, "trackers": [], "samples": 0, "checkpoint_every": 1}
    values = tiny_recipe(images.parent, training={**own, **training})
    values["data"] |= {
        "images": str(images),
        "masks": None if masks is None else str(masks),
        "require_masks": False,
    }
    return build(Recipe, values)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = RunFolder(folder).load_state()
    assert state is not None
    return state["model"]


@pytest.mark.parametrize("form", FORMS)
def test_killed_within_an_epoch_and_gone_on_with_other_workers_it_is_as_from_files(
    form: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = FORMS[form](root, tmp_path / "data")
    train(recipe(root / "images", root / "masks"), tmp_path / "files", quiet=True)
    own, seen = Trainer.step, Counter[int]()

    def counting(self, batch, whole):
        if self.progress.step == 4 and sum(seen.values()) == 17:
            raise KeyboardInterrupt  # the second epoch is under way
        seen.update(batch.indices.tolist())
        return own(self, batch, whole)

    monkeypatch.setattr(Trainer, "step", counting)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(images, None, workers=2), tmp_path / "run", quiet=True)
    seen[-1] = 1  # it was killed once
    train(recipe(images, None), tmp_path / "run", quiet=True)
    del seen[-1]
    assert seen == dict.fromkeys(range(12), 2), "each image once in each epoch"
    files, run = weights(tmp_path / "files"), weights(tmp_path / "run")
    assert all(torch.equal(run[name], value) for name, value in files.items())
