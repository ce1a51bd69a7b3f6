"""Validation: right figures, and no graph beyond what an objective derives."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

import vitreous
from helpers import TINY_MODEL
from vitreous.data.batch import Batch
from vitreous.training import validation
from vitreous.training.objectives import OBJECTIVES, LossTerm, Step
from vitreous.training.objectives.base import WeightedObjective
from vitreous.training.step import compute_loss

COUNT = 5


@pytest.fixture
def model() -> vitreous.Classifier:
    return vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        **TINY_MODEL["options"],
    )


@pytest.fixture
def batches(monkeypatch) -> list[Batch]:
    """Two batches of masked images, an uneven one last, in place of what a loader reads."""
    masks = torch.zeros(COUNT, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    has_mask, rows = torch.arange(COUNT) != 3, torch.arange(COUNT)
    whole = Batch(torch.rand(COUNT, 3, 32, 32), rows % 3, masks, has_mask, rows)
    parts = [whole.rows(0, 3), whole.rows(3, COUNT)]
    monkeypatch.setattr(validation, "load_batches", lambda *_: parts)
    return parts


class Sized:
    def __len__(self) -> int:
        return COUNT


def validated(model: vitreous.Classifier, objectives: dict) -> validation.Validated:
    AcceleratorState._reset_state()  # what another test trained in
    data = Sized()
    return validation.validate(Accelerator(), model, data, objectives, batch_size=3)


def measure(model: vitreous.Classifier, objectives: dict) -> dict[str, float]:
    return validated(model, objectives).means


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_figures_are_those_of_a_pass_with_gradients(name, model, batches):
    objective = {name: OBJECTIVES[name]()}
    torch.manual_seed(0)
    figures = measure(model, objective)
    assert model.training
    model.eval()
    torch.manual_seed(0)
    losses = [compute_loss(model, model, b, objective, progress=1.0) for b in batches]
    # The mean of a figure of masked images is over those: 3 of the first batch, 1 of the second.
    for key in losses[0].figures.keys() - {"loss"}:
        weights = [3, 1] if key in losses[0].masked_figures else [3, 2]
        values = [float(loss.figures.get(key, 0)) for loss in losses]
        assert figures[key] == pytest.approx(np.average(values, weights=weights), abs=1e-6)
    assert name in figures
    rows = [(loss.plain, 3 - n) for n, loss in enumerate(losses)]
    expected = sum(float(value.detach()) * n / COUNT for value, n in rows)
    expected += sum(float(loss.masked.detach()) * n / 4 for loss, n in zip(losses, (3, 1)))
    expected += sum(float(loss.sums.detach()) for loss in losses) * 3 / COUNT
    assert figures["loss"] == pytest.approx(expected, abs=1e-6)


def test_what_needs_masks_is_not_told_as_nothing_where_no_image_has_one(model, batches) -> None:
    for batch in batches:
        batch.has_mask[:] = False
    kinds = {
        "classification": OBJECTIVES["classification"](),
        "relevance": OBJECTIVES["relevance"](),
    }
    figures = measure(model, kinds)
    assert not [name for name in figures if name.startswith("relevance")]
    assert figures["loss"] == pytest.approx(figures["classification"], abs=1e-6)


@dataclasses.dataclass(frozen=True)
class Looking(WeightedObjective):
    """Remembers what it saw."""

    seen: list[tuple[bool, Tensor]] = dataclasses.field(default_factory=list)
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, step: Step) -> LossTerm:
        self.seen.append((torch.is_grad_enabled(), step.logits))
        return LossTerm(step.logits.mean())


@dataclasses.dataclass(frozen=True)
class LookingAtAttention(Looking):
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})


def test_no_graph_is_made_unless_an_objective_derives(model, batches: list[Batch]):
    plain, recorded = Looking(), LookingAtAttention()
    measure(model, {"looking": plain})
    assert [grad for grad, _ in plain.seen] == [False, False]
    assert not any(logits.requires_grad for _, logits in plain.seen)
    measure(model, {"looking": recorded})
    assert [grad for grad, _ in recorded.seen] == [False, False]
    assert all(logits.requires_grad for _, logits in recorded.seen)


def test_a_figure_says_how_many_images_it_is_of(model, batches: list[Batch]) -> None:
    kinds = {
        "classification": OBJECTIVES["classification"](),
        "relevance": OBJECTIVES["relevance"](),
    }
    found = validated(model, kinds)
    assert found.counts.keys() == found.means.keys()
    assert found.counts["relevance/foreground_share"] == found.counts["relevance"] == 4
    assert found.counts["classification"] == found.counts["accuracy"] == found.counts["loss"] == 5
    # Two batches tell no spread; an accuracy needs none.
    assert list(found.intervals) == ["accuracy"]


def test_intervals_cover_the_mean_that_they_bound() -> None:
    """Figures of many images, batch by batch: 95 of 100 intervals hold the true mean."""
    random, held = np.random.default_rng(0), 0
    for _ in range(400):
        values, masks = random.gamma(2.0, 1.5, 400), random.random(400) < 0.4
        rows = range(0, 400, 20)
        parts = {
            name: [
                validation.Part(
                    float((values * kept)[i : i + 20].sum()), int(kept[i : i + 20].sum())
                )
                for i in rows
            ]
            for name, kept in (
                ("masked figure", masks),
                (validation.PLAIN, np.ones(400)),
                (validation.MASKED, masks),
            )
        }
        parts[validation.SUMS] = [validation.Part(0.0, 20) for _ in rows]
        found = validation._figures(parts, 400, 20)
        assert found.means["figure"] == pytest.approx(values[masks].mean())
        assert found.counts == {"figure": masks.sum(), "loss": 400}
        held += found.intervals["figure"][0] < 3.0 < found.intervals["figure"][1]
        low, high = found.intervals["loss"]
        assert low < values.mean() + values[masks].mean() < high
    assert 0.92 * 400 <= held <= 0.98 * 400


def test_forty_images_make_twenty_batches(monkeypatch, model) -> None:
    seen = []

    def loaded(data, batches, epoch, workers):
        seen.extend(batches)
        for rows in batches:
            yield Batch(
                torch.rand(len(rows), 3, 32, 32),
                torch.zeros(len(rows), dtype=torch.int64),
                torch.zeros(len(rows), 1, 32, 32),
                torch.zeros(len(rows), dtype=torch.bool),
                torch.tensor(rows),
            )

    monkeypatch.setattr(validation, "load_batches", loaded)
    kinds = {"classification": OBJECTIVES["classification"]()}
    found = validation.validate(Accelerator(), model, range(41), kinds, batch_size=64)
    assert [len(rows) for rows in seen] == [2] * 20 + [1]
    low, high = found.intervals["classification"]
    assert low < found.means["classification"] < high
