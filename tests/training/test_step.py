"""One step's sum and figures, on a model of one layer and by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vitreous
from helpers import TINY_MODEL
from vitreous.data.batch import Batch
from vitreous.models import Classifier, attention_inputs
from vitreous.training.objectives.background_swap import BackgroundSwap, fill_holes
from vitreous.training.objectives.base import LossTerm, Step, WeightedObjective
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.input_gradients import GradMask, RightForTheRightReasons
from vitreous.training.objectives.relevance import Relevance, maps_of_step, recorded_needs
from vitreous.training.step import Share, StepLoss, compute_loss


def make_batch(count: int = 4, size: int = 4) -> Batch:
    masks = torch.zeros(count, 1, size, size)
    masks[..., : size // 2] = 1
    known = torch.ones(count, dtype=torch.bool)
    images = torch.rand(count, 3, size, size)
    return Batch(images, torch.arange(count) % 3, masks, known, torch.arange(count))


def linear() -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 3))).train()


def vit() -> Classifier:
    model = vitreous.load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        **TINY_MODEL["options"],
    )
    return model.train()


@dataclasses.dataclass(frozen=True)
class Watched(WeightedObjective):
    """Keeps the steps that it sees; its loss is a sum or a mean of the first logit."""

    asks: frozenset[str] = frozenset()
    reduction: str = "mean"
    seen: list[Step] = dataclasses.field(default_factory=list)

    @property
    def needs(self) -> frozenset[str]:
        return self.asks

    def __call__(self, step: Step) -> LossTerm:
        self.seen.append(step)
        first = step.logits[:, 0]
        loss = first.sum() if self.reduction == "sum" else first.mean()
        return LossTerm(loss, {"accuracy": 9.0, "other": 2.0}, self.reduction)


def test_parts_of_processes_add_up_to_the_gradient_of_the_whole() -> None:
    """Three rows, then two, in two processes each; a process without rows counts for nothing."""
    batch, model = make_batch(5), linear()
    objectives = {"mean": Watched(2.0), "sum": Watched(0.5, reduction="sum")}
    whole = 2 * model(batch.images)[:, 0].mean() + 0.5 * model(batch.images)[:, 0].sum()
    (expected,) = torch.autograd.grad(whole, model.net[1].weight)
    total = torch.zeros_like(expected)
    for start, stop, rows in ((0, 3, 3), (3, 5, 2), (0, 2, 0)):
        loss = compute_loss(model, model, batch.rows(start, stop), objectives)
        scaled = loss.scaled(Share(rows, 5, int(batch.has_mask.sum()), 2))
        total += torch.autograd.grad(scaled, model.net[1].weight)[0] / 2  # averaged over processes
    torch.testing.assert_close(total, expected)


def test_the_scalar_of_a_pass_by_hand() -> None:
    parts = (torch.tensor(5.0), torch.tensor(11.0), torch.tensor(7.0))
    loss = StepLoss(*parts, {}, frozenset(), masked_rows=2)
    assert loss.means.item() == 5 + 11
    # Rows of this pass, of the step, masked ones of the step, processes.
    whole = 5 * 3 * 2 / 12 + 11 * 2 * 2 / 8 + 7 * 2
    assert loss.scaled(Share(3, 12, 8, 2)).item() == whole
    assert loss.scaled(Share(1, 12, 8, 2)).item() == pytest.approx(5 * 2 / 12 + 5.5 + 14)
    assert loss.scaled(Share(0, 12, 8, 2)).item() == 0
    assert loss.scaled(Share(3, 12, 0, 2)).item() == 5 * 3 * 2 / 12 + 11 * 2 * 2 + 14


def test_figures_are_means_over_rows_and_hold_no_graph() -> None:
    batch, model = make_batch(4), linear()
    objectives = {"mean": Watched(2.0), "sum": Watched(0.5, reduction="sum")}
    loss = compute_loss(model, model, batch, objectives)
    first = model(batch.images)[:, 0].detach()
    figures = {name: float(value) for name, value in loss.figures.items()}
    right = (model(batch.images).argmax(1) == batch.labels).float().mean()
    assert figures == pytest.approx(
        {
            "accuracy": float(right),
            "mean": float(first.mean()),
            "sum": float(first.mean()),
            "mean/other": 2.0,
            "sum/other": 2.0,
            "loss": float(2 * first.mean() + 0.5 * first.sum()),
        }
    )
    assert not any(value.requires_grad for value in loss.figures.values())
    batch.labels[0] = -1
    assert "accuracy" not in compute_loss(model, model, batch, objectives).figures


def test_sums_are_added_in_float32() -> None:
    model, objective = linear().bfloat16(), Watched(1.0, reduction="sum")
    batch = make_batch()
    batch.images = batch.images.bfloat16()
    for kinds in ({"sum": objective}, {"mean": Watched(1.0)}):
        loss = compute_loss(model, model, batch, kinds)
        parts = (loss.plain, loss.masked, loss.sums)
        assert [part.dtype for part in parts] == [torch.float32] * 3


def test_relevance_counts_from_the_first_layer_unless_told() -> None:
    model, batch = vit(), make_batch(2, 32)
    watch = Watched(asks=frozenset({"attention"}))
    compute_loss(model, model, batch, {"a": watch})
    (step,) = watch.seen
    maps, _ = maps_of_step(step, batch.labels)
    first, _ = maps_of_step(step, batch.labels, start_layer=0)
    later, _ = maps_of_step(step, batch.labels, start_layer=1)
    assert torch.equal(maps, first) and not torch.equal(maps, later)


def test_an_objective_sees_the_images_before_and_after_the_adversary() -> None:
    model, batch, clean = linear(), make_batch(), torch.rand(4, 3, 4, 4)
    cases = [(given, derived) for given in (None, batch.images, clean) for derived in (False, True)]
    for given, derived in cases:
        watch = Watched(asks=frozenset({"input_gradients"} if derived else ()))
        compute_loss(model, model, batch, {"w": watch}, clean=given, progress=0.25)
        (step,) = watch.seen
        assert torch.equal(step.batch.images, batch.images) and step.progress == 0.25
        assert step.clean is (clean if given is clean else step.batch.images)
        assert step.batch.images.requires_grad == derived and not batch.images.requires_grad
    watch = Watched()
    compute_loss(model, model, batch, {"w": watch})
    assert watch.seen[0].batch.images is batch.images and watch.seen[0].progress == 0.0


@pytest.mark.parametrize("second", [False, True])
def test_whole_maps_are_recorded_only_where_an_objective_needs_them(
    second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", 2)
    model, batch = vit(), make_batch(2, 32)
    inputs = frozenset({"attention", "attention_inputs"})
    other = frozenset({"attention"}) if second else frozenset({"masks"})
    watch = Watched(asks=inputs)
    compute_loss(model, model, batch, {"a": watch, "b": Watched(asks=other)})
    forward = watch.seen[0].forward
    assert bool(forward.inputs) != second
    assert bool(forward.trace and forward.trace.maps) == second
    plain = Watched()
    compute_loss(model, model, batch, {"a": plain})
    assert not plain.seen[0].forward.recorded


@pytest.mark.parametrize("more", [0, 1])
def test_inputs_are_recorded_from_a_number_of_tokens_on(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, watch = vit(), Watched(asks=frozenset({"attention", "attention_inputs"}))
    tokens = model.net.pos_embed.shape[1]
    monkeypatch.setattr(attention_inputs, "LEAST_TOKENS", tokens + more)
    compute_loss(model, model, make_batch(2, 32), {"a": watch})
    assert bool(watch.seen[0].forward.inputs) == (more == 0)


def test_what_is_reported_of_an_objective_is_detached_and_summed_where_it_is_a_sum() -> None:
    model, batch = vit(), make_batch(4, 32)
    seen: list[tuple[Any, LossTerm]] = []

    class Kept:
        def __init__(self, inner: Any):
            self.inner, self.needs = inner, inner.needs

        def weight_at(self, progress: float) -> float:
            return 1.0

        def __call__(self, step: Step) -> LossTerm:
            term = self.inner(step)
            seen.append((self.inner, term))
            return term

    for inner in (
        Classification(),
        Relevance(),
        GradMask(),
        RightForTheRightReasons(),
        BackgroundSwap(consistency=0.5),
    ):
        loss = compute_loss(model, model, batch, {"o": Kept(inner)})
        term = seen[-1][1]
        logged = [v for v in term.log.values() if isinstance(v, Tensor)]
        assert logged and not any(v.requires_grad for v in logged)
        summed = isinstance(inner, RightForTheRightReasons)
        plain = isinstance(inner, Classification)
        assert term.reduction == ("sum" if summed else "mean" if plain else "masked_mean")
        assert term.loss.requires_grad, "it trains the weights as it comes"
        if summed:
            assert float(loss.figures["o"]) == pytest.approx(float(term.loss.detach()) / 4)
            assert float(term.log["penalty"]) == pytest.approx(float(term.loss.detach()) / 4)


def test_defaults_are_the_published_ones() -> None:
    assert (Relevance().background, Relevance().foreground) == (2.0, 0.3)
    swap = BackgroundSwap()
    assert (swap.consistency, swap.feather, swap.least_background) == (0.0, 0.02, 0.1)
    assert swap.target == Relevance().target == Classification().target == "label"


def test_relevance_starts_at_the_layer_that_it_was_given() -> None:
    model, batch = vit(), make_batch(3, 32)
    for start in (0, 1):
        found = compute_loss(model, model, batch, {"r": Relevance(start_layer=start)})
        maps = vitreous.relevance(
            model, batch.images, batch.labels, start_layer=start, differentiable=True
        )
        background = ((maps * (1 - batch.masks)) ** 2).mean()
        foreground = ((maps * batch.masks - batch.masks) ** 2).mean()
        expected = float((2.0 * background + 0.3 * foreground).detach())
        assert float(found.means.detach()) == pytest.approx(expected, rel=1e-4)


def test_a_second_derivative_needs_whole_maps() -> None:
    assert recorded_needs("gradient_attention", True) == {"attention"}
    assert recorded_needs("gradient_attention", False) == {"attention", "attention_inputs"}
    assert Relevance().needs == {"attention", "attention_inputs", "masks"}
    assert Relevance(second_order=True).needs == {"attention", "masks"}


def test_of_an_image_of_which_nothing_is_known_zeros_are_left() -> None:
    for size in (1, 5):
        images = torch.rand(2, 3, size, size) + 0.5
        known = torch.zeros(2, 1, size, size)
        known[1] = 1
        filled = fill_holes(images, known)
        assert torch.equal(filled[0], torch.zeros(3, size, size))
        assert torch.allclose(filled[1], images[1])


def test_a_step_that_others_wait_for_remembers_and_knows_the_groups_too() -> None:
    batch, watched = make_batch(), Watched()
    batch.has_mask[:] = False
    memory, sizes = {"weights": torch.ones(2)}, torch.tensor([3, 5])
    model = linear()
    options = {"together": True, "memory": memory, "group_sizes": sizes}
    compute_loss(model, model, batch, {"watched": watched}, **options)
    (step,) = watched.seen
    assert step.memory is memory and step.group_sizes is sizes
    assert step.batch.has_mask.tolist() == [True, False, False, False]
