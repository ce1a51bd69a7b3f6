"""What benchmarks work on: files as a recipe reads them, and the same for ours and theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.training import load_recipe

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in ("activations", "brain", "training"):
            patch.delitem(sys.modules, name, raising=False)  # folders of tests have such names
        import activations
        import brain
        import training

        yield SimpleNamespace(activations=activations, brain=brain, training=training)


def photographs(folder: Path, names: list[str]) -> Path:
    """Small photographs with coarse patterns, as JPEG files."""
    random = np.random.default_rng(0)
    for name in names:
        coarse = Image.fromarray(random.integers(0, 255, (4, 5, 3)).astype(np.uint8))
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((50, 40), Image.Resampling.BICUBIC).save(file)
    return folder


@pytest.mark.parametrize("classes", [2, 0])
def test_photographs_are_laid_out_as_the_recipe_reads_them(
    scripts, tmp_path: Path, classes: int
) -> None:
    names = [f"c{i % classes}/{i}.jpg" if classes else f"{i}.jpg" for i in range(20)]
    data = photographs(tmp_path / "data", names)
    settings = scripts.training.Settings(data=data, batch=4, steps=4, size=32, repeats=1)
    given = scripts.training.changes(settings, tmp_path / "root")
    split = load_recipe("photographs/guided", given).data.load(0)
    assert len(split.train) == len(split.validation) == settings.images == 16
    assert len(split.train.class_names) == (classes or scripts.training.CLASSES)
    mask = split.train.mask(0)
    assert mask is not None
    box = np.zeros((40, 50), bool)
    box[10:30, 12:38] = True
    assert np.array_equal(np.asarray(mask).squeeze() > 0, box)
    with pytest.raises(SystemExit, match="at least 16 photographs, found 3"):
        few = photographs(tmp_path / "few", names[:3])
        scripts.training.lay_out(few, tmp_path / "none", 16)


def test_activations_and_scores_of_ours_and_theirs_agree(scripts, tmp_path: Path) -> None:
    data = photographs(tmp_path / "data", [f"{i}.jpg" for i in range(12)])
    torch.manual_seed(0)
    settings = scripts.activations.Settings(
        images=data, model="vit_tiny_patch16_224", components=3, neuroids=4, folds=2, batch=5
    )
    work = scripts.activations.Work(settings, tmp_path / "work", 12)
    ours = work.ours()
    assert ours.shape == (12, 197 * 192)
    assert np.allclose(ours, work.theirs(0)(), atol=1e-4)
    work.our_score(ours)
    work.their_score(work.features)
    assert work.scores["ours"] == pytest.approx(work.scores["theirs"], abs=1e-5)
    assert np.isfinite(work.scores["ours"])


@pytest.mark.parametrize("units", [5, 30])
def test_the_floor_of_a_regression_takes_the_smaller_side(scripts, units: int) -> None:
    features = np.random.default_rng(0).normal(size=(12, units)).astype(np.float32)
    matrix = scripts.brain.smaller_side(features)
    assert matrix.shape == (min(12, units),) * 2
    values = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    assert np.allclose(np.linalg.eigvalsh(matrix)[::-1][:5], values[:5], rtol=1e-4)
