"""Objectives and schedules against their formulas, on models of one layer or two."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.data.batch import Batch
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.training.objectives import relevance_consistency
from vitreous.training.objectives.base import LossTerm, Step, WeightedObjective
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.gradalign import GradAlign
from vitreous.training.objectives.input_gradients import GradMask, RightForTheRightReasons
from vitreous.training.objectives.relevance_consistency import RelevanceConsistency
from vitreous.training.objectives.trades import Trades
from vitreous.training.schedules import SCHEDULES, Constant, Cosine, PiecewiseLinear, StepDecay
from vitreous.training.step import StepLoss, compute_loss

COUNT = 4


def make_batch() -> Batch:
    torch.manual_seed(3)
    masks = torch.zeros(COUNT, 1, 4, 4)
    masks[..., :2] = 1
    has_mask = torch.tensor([True, True, False, True])
    rows = torch.arange(COUNT)
    return Batch(torch.rand(COUNT, 3, 4, 4), rows % 3, masks, has_mask, rows)


def bent(std: float = 0.25) -> Classifier:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 3))
    return Classifier(net, (0.5,) * 3, (std,) * 3).train()


class Wrapped(nn.Module):
    """What several processes train: a module around the classifier."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.module, self.calls = classifier, 0

    def forward(self, *inputs: Any, **named: Any) -> Any:
        self.calls += 1
        return self.module(*inputs, **named)


def number(value: Tensor) -> float:
    return value.detach().item()


def term(loss: StepLoss) -> float:
    return number(loss.figures["o"])


def test_classification_divides_by_the_temperature_and_smooths() -> None:
    model, batch = bent(), make_batch()
    logits = model(batch.images)
    for target, classes in (("label", batch.labels), ("prediction", logits.argmax(1))):
        objective = Classification(target=target, temperature=0.5, label_smoothing=0.3)
        loss = compute_loss(model, model, batch, {"o": objective})
        expected = F.cross_entropy(logits / 0.5, classes, label_smoothing=0.3)
        assert term(loss) == pytest.approx(number(expected))
    shares = torch.rand(COUNT, 3).softmax(1)
    mixed = dataclasses.replace(batch, targets=shares)
    of_shares = compute_loss(model, model, mixed, {"o": Classification()})
    assert term(of_shares) == pytest.approx(number(F.cross_entropy(logits, shares)))
    own = compute_loss(model, model, mixed, {"o": Classification(target="prediction")})
    assert term(own) == pytest.approx(number(F.cross_entropy(logits, logits.argmax(1))))


def test_classification_tells_its_accuracy_and_refuses_what_has_no_label() -> None:
    model, batch, seen = bent(), make_batch(), []

    class Kept(WeightedObjective):
        needs: Any = frozenset()

        def __call__(self, step: Step) -> LossTerm:
            seen.append(Classification()(step))
            return seen[-1]

    compute_loss(model, model, batch, {"o": Kept()})
    right = (model(batch.images).argmax(1) == batch.labels).float().mean()
    assert number(seen[0].log["accuracy"]) == number(right)
    batch.labels[1] = -1
    with pytest.raises(VitreousError, match="no labels"):
        compute_loss(model, model, batch, {"o": Classification()})
    compute_loss(model, model, batch, {"o": Classification(target="prediction")})
    with pytest.raises(ValueError, match="temperature must be positive, found 0"):
        Classification(temperature=0)
    assert Classification().label_smoothing == 0 and Classification().temperature == 1


def test_trades_is_cross_entropy_and_the_divergence_of_both_answers() -> None:
    model, batch = bent(), make_batch()
    wrapped, clean = Wrapped(model), torch.rand(COUNT, 3, 4, 4)
    loss = compute_loss(wrapped, model, batch, {"o": Trades()}, clean=clean)
    assert wrapped.calls == 2, "the clean images take the way of the others"
    first, second = model(clean).softmax(1), model(batch.images).softmax(1)
    natural = -first[torch.arange(COUNT), batch.labels].log().mean()
    divergence = (first * (first / second).log()).sum(1).mean()
    assert term(loss) == pytest.approx(number(natural + 6 * divergence), rel=1e-5)
    assert number(loss.figures["o/natural"]) == pytest.approx(number(natural))
    assert number(loss.figures["o/divergence"]) == pytest.approx(number(divergence), rel=1e-4)
    assert not any(value.requires_grad for value in loss.figures.values())
    assert loss.means.requires_grad and Trades().weight == 1
    with pytest.raises(VitreousError, match="the recipe has no adversary"):
        compute_loss(model, model, batch, {"o": Trades()})
    alone = compute_loss(model.eval(), model, batch, {"o": Trades()})
    assert term(alone) == pytest.approx(number(F.cross_entropy(model(batch.images), batch.labels)))


def test_gradalign_is_the_angle_of_two_gradients() -> None:
    model, batch, objective = bent(), make_batch(), GradAlign(epsilon=0.5)
    torch.manual_seed(7)
    loss = compute_loss(Wrapped(model), model, batch, {"o": objective})
    torch.manual_seed(7)
    noisy = batch.images + (2 * torch.rand(batch.images.shape) - 1) * 0.5
    rows = []
    for images in (batch.images, noisy):
        variable = images.clone().requires_grad_()
        value = F.cross_entropy(model(variable), batch.labels, reduction="sum")
        rows.append(torch.autograd.grad(value, variable)[0].reshape(COUNT, -1))
    lengths = [row.norm(dim=1) for row in rows]
    cosine = (rows[0] * rows[1]).sum(1) / (lengths[0] * lengths[1])
    assert cosine.min() < 0.999
    assert term(loss) == pytest.approx(number((1 - cosine).mean()), abs=1e-5)
    assert number(loss.figures["o/cosine"]) == pytest.approx(number(cosine.mean()), abs=1e-5)
    assert not loss.figures["o/cosine"].requires_grad
    (grad,) = torch.autograd.grad(loss.means, model.net[1].weight)
    assert grad.abs().sum() > 0
    assert GradAlign().weight == 0.2 and GradAlign().epsilon == 2 / 255
    at_rest = compute_loss(model.eval(), model, batch, {"o": objective})
    (rest,) = torch.autograd.grad(at_rest.means, model.net[1].weight)
    assert not rest.any(), "outside training there is no second derivative"


@pytest.mark.parametrize("kind", [GradMask, RightForTheRightReasons])
def test_penalties_are_of_the_gradient_outside_the_mask(kind: type) -> None:
    model, batch = bent(), make_batch()
    variable = batch.images.clone().requires_grad_()
    logits = model(variable)
    if kind is GradMask:
        score = logits[torch.arange(COUNT), batch.labels].sum()
    else:
        score = (logits.softmax(1) + 1e-11).log().sum()
    derived = torch.autograd.grad(score, variable)[0] * 0.25  # the standard deviation
    squares = ((derived * (1 - batch.masks)) ** 2)[batch.has_mask]
    expected = number(squares.mean() if kind is GradMask else squares.sum())
    loss = compute_loss(model, model, batch, {"o": kind()})
    whole = loss.masked if kind is GradMask else loss.sums
    assert number(whole.detach()) == pytest.approx(expected, rel=1e-4)
    share = 1 if kind is GradMask else COUNT
    assert number(loss.figures["o/penalty"]) == pytest.approx(expected / share, rel=1e-4)
    (second,) = torch.autograd.grad(whole, model.net[1].weight)
    assert second.abs().sum() > 0 and not loss.figures["o/penalty"].requires_grad
    released = compute_loss(model, model, batch, {"o": kind(gradient="released")})
    assert (
        not (released.masked + released.sums).requires_grad
        or not torch.autograd.grad(released.means + released.sums, model.net[1].weight)[0].any()
    )
    batch.has_mask[:] = False
    nothing = compute_loss(model, model, batch, {"o": kind()})
    assert number((nothing.masked + nothing.sums).detach()) == 0
    assert kind().weight == 1.0


def test_consistency_weighs_its_terms_and_hands_on_its_settings(monkeypatch) -> None:
    model, batch, seen = bent(), make_batch(), []

    def maps_of_step(step: Step, classes: Tensor, **settings: object) -> tuple[Tensor, None]:
        seen.append((settings, classes))
        return step.batch.images[:, :1] ** 2, None

    monkeypatch.setattr(relevance_consistency, "maps_of_step", maps_of_step)
    monkeypatch.setattr(RelevanceConsistency, "needs", frozenset())
    monkeypatch.setattr(
        Step, "again", lambda step, images, recorded, classes: _other(step, images, recorded)
    )
    clean = torch.rand(COUNT, 3, 4, 4)
    objective = RelevanceConsistency(
        turn=2.0,
        attack=3.0,
        target="prediction",
        start_layer=5,
        second_order=True,
        method="rollout",
    )
    loss = compute_loss(model, model, batch, {"o": objective}, clean=clean)
    told = {"method": "rollout", "start_layer": 5, "second_order": True}
    assert len(seen) == 3 and all(settings == told for settings, _ in seen)
    assert all(torch.equal(c, model(batch.images).argmax(1)) for _, c in seen)
    apart = F.mse_loss(batch.images[:, :1] ** 2, clean[:, :1] ** 2)
    # Squares of pixels turn with the image: turned back they are the same.
    assert number(loss.figures["o/turn"]) == pytest.approx(0, abs=1e-12)
    assert number(loss.figures["o/attack"]) == pytest.approx(number(apart))
    assert term(loss) == pytest.approx(3 * number(apart), rel=1e-5)
    seen.clear()
    off = compute_loss(model, model, batch, {"o": RelevanceConsistency(turn=0.0)}, clean=clean)
    assert len(seen) == 2 and "o/turn" not in off.figures
    alone = compute_loss(model, model, batch, {"o": RelevanceConsistency()})
    assert "o/attack" not in alone.figures
    # A map that does not turn with the image differs by what it is turned.
    monkeypatch.setattr(
        relevance_consistency, "maps_of_step", lambda *_, **__: (batch.masks + 0, None)
    )
    stiff = compute_loss(model, model, batch, {"o": RelevanceConsistency(turn=2.0)})
    assert number(stiff.figures["o/turn"]) > 0.2
    assert term(stiff) == pytest.approx(2 * number(stiff.figures["o/turn"]))


def _other(step: Step, images: Tensor, recorded: bool) -> Step:
    """The same step with other images; no family of models is needed for it."""
    assert recorded == (images is not step.clean)
    return dataclasses.replace(step, batch=dataclasses.replace(step.batch, images=images))


def test_a_step_is_seen_once_more_on_the_clean_images() -> None:
    model, batch, steps = bent(), make_batch(), []
    clean = torch.rand(COUNT, 3, 4, 4)

    class Kept(WeightedObjective):
        needs: Any = frozenset()

        def __call__(self, step: Step) -> LossTerm:
            steps.append(step)
            return LossTerm(step.zero())

    wrapped = Wrapped(model)
    compute_loss(wrapped, model, batch, {"o": Kept()}, clean=clean)
    compute_loss(wrapped, model, batch, {"o": Kept()})
    step, plain = steps
    assert plain.on_clean is plain and step.on_clean is step.on_clean
    assert step.on_clean.batch.images is clean and step.on_clean.clean is clean
    torch.testing.assert_close(step.on_clean.logits, model(clean))
    assert torch.equal(step.on_clean.batch.labels, batch.labels)
    assert not step.on_clean.forward.recorded
    assert step.again(batch.images, recorded=False)._clean_steps == {}, "it is of other images"
    assert "_clean_step" not in repr(step) and step.progress == 0
    assert wrapped.calls == 2, "further passes go through the unwrapped model"
    zero = step.zero()
    assert number(zero.detach()) == 0 and zero.requires_grad


def test_a_ramp_grows_or_falls_between_two_shares() -> None:
    rising, falling = (WeightedObjective(2.0, ramp=r) for r in ((0.2, 0.6), (0.5, 0.0)))
    assert [rising.weight_at(p) for p in (0, 0.2, 0.3, 0.6, 1)] == pytest.approx([0, 0, 0.5, 2, 2])
    assert [falling.weight_at(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([2, 1, 0, 0])
    assert WeightedObjective().weight_at(0.5) == 1.0
    with pytest.raises(ValueError, match=r"two different shares, found \[0.5, 0.5\]"):
        WeightedObjective(ramp=(0.5, 0.5))
    assert LossTerm(torch.zeros(())).reduction == "mean"


def test_schedules_are_their_formulas() -> None:
    assert Constant()(0.3, 5.5, 10) == 0.3
    decay = StepDecay()
    assert [decay(1.0, e, 9) for e in (0, 1.9, 2, 5)] == pytest.approx([1, 1, 0.85, 0.85**2])
    assert StepDecay(factor=0.5, every=3)(2.0, 6.5, 9) == 0.5
    cosine = Cosine(warmup=2, final=0.1)
    assert [cosine(4.0, e, 10) for e in (0, 0.5, 1, 2)] == pytest.approx([0, 1, 2, 4])
    assert cosine(4.0, 4, 10) == pytest.approx(4 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert cosine(4.0, 6, 10) == pytest.approx(4 * 0.55)
    assert [cosine(4.0, e, 10) for e in (10, 12)] == pytest.approx([0.4, 0.4])
    assert Cosine()(1.0, 0, 4) == 1.0 and Cosine()(1.0, 4, 4) == 0.0
    assert Cosine(warmup=3)(1.0, 3, 3) == pytest.approx(1.0), "all of it is warm-up"
    with pytest.raises(VitreousError, match="unknown schedule"):
        SCHEDULES["cosin"]


def test_a_piecewise_schedule_goes_through_its_knots() -> None:
    lines = PiecewiseLinear((0, 2, 5), (0.0, 1.0, 0.25))
    rates = [lines(9.0, e, 5) for e in (0, 0.5, 2, 3, 5)]
    assert rates == pytest.approx([0, 0.25, 1, 0.75, 0.25])
    with pytest.raises(VitreousError, match=r"given up to epoch 5 and epoch 5\.5"):
        lines(9.0, 5.5, 6)
    assert PiecewiseLinear((0, 2), (0.0, 1.0), past_end="last")(9.0, 7, 9) == 1.0
    assert PiecewiseLinear((1, 2), (0.5, 1.0))(9.0, 0, 9) == 0.0, (
        "before the first its line goes on"
    )
    for epochs, rates_ in (((0, 1), (1.0,)), ((0,), (1.0,)), ((0, 1, 2), (1.0, 2.0))):
        with pytest.raises(ValueError, match=f"found {len(rates_)} and {len(epochs)}"):
            PiecewiseLinear(epochs, rates_)
    for epochs in ((0, 0), (2, 1)):
        with pytest.raises(ValueError, match="epochs must increase"):
            PiecewiseLinear(epochs, (1.0, 2.0))
