"""Balls, steps and losses of attacks against loops, the geometry and a model that is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vitreous.attacks import FGSM, PGD
from vitreous.attacks import gradient as gradient_module
from vitreous.attacks.gradient import (
    LostGradientWarning,
    ascend,
    loss_and_gradient,
    loss_only,
    warn_of_lost,
)
from vitreous.attacks.losses import LOSSES
from vitreous.attacks.norms import norms, project, random_start, steepest, within_ball
from vitreous.errors import VitreousError


def noise(count: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 4, 6, generator=torch.Generator().manual_seed(seed))


def sizes(values: Tensor, norm: str) -> list[float]:
    """By hand."""
    rows = [row.flatten().tolist() for row in values]
    if norm == "linf":
        return [max(map(abs, row)) for row in rows]
    return [math.sqrt(sum(v * v for v in row)) for row in rows]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_is_the_nearest_of_the_ball(norm) -> None:
    values = noise() * torch.tensor([0.0, 0.01, 0.1, 1.0, 5.0]).view(-1, 1, 1, 1)
    assert norms(values, norm).tolist() == pytest.approx(sizes(values, norm), rel=1e-5)
    for epsilon in (0.3, 2.0):
        made = project(values, epsilon, norm)
        wanted = [min(s, epsilon) for s in sizes(values, norm)]
        assert sizes(made, norm) == pytest.approx(wanted, rel=1e-5, abs=1e-7)
        gaps = sizes(made - values, "l2")
        for point in (project(noise(seed=s) * 0.3, epsilon, norm) for s in range(1, 6)):
            assert all(a <= b + 1e-5 for a, b in zip(gaps, sizes(point - values, "l2")))
        held = norms(values, norm) <= epsilon
        assert torch.equal(made[held], values[held])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_steepest_step_has_length_one_and_no_other_gains_more(norm) -> None:
    gradient = noise() * torch.tensor([1e-6, 1.0, 3.0, 1.0, 1e4]).view(-1, 1, 1, 1)
    step = steepest(gradient, norm)
    assert sizes(step, norm) == pytest.approx([1] * 5, rel=1e-4)
    gains = (gradient * step).flatten(1).sum(1)
    for seed in range(1, 6):
        other = noise(seed=seed)
        other = other / norms(other, norm).view(-1, 1, 1, 1)
        assert ((gradient * other).flatten(1).sum(1) <= gains * (1 + 1e-5)).all()
    assert torch.equal(steepest(torch.zeros(1, 3, 2, 2), norm), torch.zeros(1, 3, 2, 2))


def test_random_starts_are_uniform_in_the_ball() -> None:
    source = torch.Generator().manual_seed(0)
    box = random_start(torch.zeros(400, 1, 5, 5), 0.5, "linf", source)
    assert box.abs().max() <= 0.5 and box.mean().abs() < 0.01
    assert box.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.02)
    ball = random_start(torch.zeros(20_000, 1, 1, 3), 2.0, "l2", source)
    # By volume, the cube of the radius is uniform in three dimensions, and so is each direction.
    shares = (torch.tensor(sizes(ball, "l2")) / 2) ** 3
    assert shares.max() <= 1 + 1e-5 and shares.mean().item() == pytest.approx(0.5, abs=0.01)
    assert shares.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.02)
    heights = ball[:, 0, 0, 2] / norms(ball, "l2")  # Archimedes: uniform in [-1, 1]
    assert heights.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.02)
    assert abs(heights.mean().item()) < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_comes_back_is_in_the_ball_and_an_image(norm) -> None:
    images = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    made = within_ball(images, images + noise(), 0.4, norm)
    assert made.min() >= 0 and made.max() <= 1
    assert max(sizes(made - images, norm)) <= 0.4 * (1 + 1e-5)
    near = within_ball(images * 0.5 + 0.25, images * 0.5 + 0.26, 0.4, norm)
    assert torch.allclose(near, images * 0.5 + 0.26, atol=1e-6)


def other(row: list[float], goal: int) -> float:
    return max(v for i, v in enumerate(row) if i != goal)


def by_hand(name: str, row: list[float], label: int, target: int | None) -> float:
    """Croce and Hein 2020, equations 6 and 7; cross entropy and margin by definition."""
    if name == "cross_entropy":
        total = math.log(sum(math.exp(v) for v in row))
        return total - row[label] if target is None else row[target] - total
    if name == "margin":
        return (
            other(row, label) - row[label] if target is None else row[target] - other(row, target)
        )
    z = sorted(row, reverse=True)
    if target is None:
        return (other(row, label) - row[label]) / (z[0] - z[2])
    return (row[target] - row[label]) / (z[0] - (z[2] + z[3]) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_definitions(name) -> None:
    logits = torch.randn(30, 6, generator=torch.Generator().manual_seed(2)) * 3
    labels, targets = torch.arange(30) % 6, (torch.arange(30) * 5 + 1) % 6
    plain, aimed = LOSSES[name](logits, labels, None), LOSSES[name](logits, labels, targets)
    for i, row in enumerate(logits.tolist()):
        label, target = int(labels[i]), int(targets[i])
        assert plain[i].item() == pytest.approx(by_hand(name, row, label, None), rel=1e-4, abs=1e-5)
        assert aimed[i].item() == pytest.approx(
            by_hand(name, row, label, target), rel=1e-4, abs=1e-5
        )


def test_dlr_needs_three_classes_or_four_and_takes_equal_logits() -> None:
    labels = torch.tensor([0])
    assert LOSSES["dlr"](torch.tensor([[1.0, 1.0, 1.0]]), labels, None).item() == 0
    assert LOSSES["dlr"](torch.ones(1, 4), labels, labels + 1).item() == 0
    with pytest.raises(VitreousError, match="needs 3 classes, the model has 2"):
        LOSSES["dlr"](torch.zeros(1, 2), labels, None)
    with pytest.raises(VitreousError, match="needs 4 classes, the model has 3"):
        LOSSES["dlr"](torch.zeros(1, 3), labels, labels + 1)


class Linear(nn.Module):
    """Logits (0, w · x): their gradient is w everywhere, so the best attack is known."""

    def __init__(self, weight: Tensor, shift: float = 0.0):
        super().__init__()
        self.weight, self.shift = nn.Parameter(weight), shift
        self.calls: list[Tensor] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(images.detach().clone())
        value = (images * self.weight).flatten(1).sum(1) + self.shift
        return torch.stack([torch.zeros_like(value), value], 1)


def test_a_gradient_is_of_the_inputs_alone() -> None:
    model, images = Linear(noise(1)[0]), torch.rand(5, 3, 4, 6)
    logits, loss, gradient = loss_and_gradient(model, images, lambda z: 2 * z[:, 1])
    assert torch.allclose(gradient, 2 * model.weight.expand_as(images))
    assert torch.allclose(loss, 2 * logits[:, 1]) and loss.shape == (5,)
    assert not (logits.requires_grad or loss.requires_grad or images.requires_grad)
    assert model.weight.grad is None
    again, alone = loss_only(model, images, lambda z: 2 * z[:, 1])
    assert torch.equal(again, logits) and torch.equal(alone, loss) and not alone.requires_grad


def test_the_scale_of_a_loss_in_half_precision_goes_on_from_call_to_call(monkeypatch) -> None:
    seen = []

    def scaled(value: Tensor, of: list[Tensor], **named: object) -> tuple[Tensor, ...]:
        seen.append(named)
        return torch.autograd.grad(value, of)

    monkeypatch.setattr(gradient_module, "scaled_gradients", scaled)
    state: dict[str, Tensor] = {}
    for kind in (torch.float16, torch.float32):
        linear = Linear(noise(1)[0])
        model = lambda x, linear=linear, kind=kind: linear(x).to(kind)  # noqa: E731
        loss_and_gradient(model, torch.rand(2, 3, 4, 6), lambda z: z[:, 1], state)
    assert [named["half"] for named in seen] == [True, False]
    assert all(named["state"] is state for named in seen)


def test_a_step_is_taken_from_the_start_and_held_about_the_centre() -> None:
    center, gradient = torch.rand(2, 3, 4, 6), noise(2)
    start = center + 0.05
    moved = ascend(start, gradient, 0.02, 1.0, "linf", center)
    assert torch.allclose(moved, 0.05 + 0.02 * gradient.sign(), atol=1e-6)
    held = ascend(start, gradient, 0.02, 0.06, "linf", center)
    assert held.max().item() == pytest.approx(0.06) and held.min().item() == pytest.approx(0.03)
    lost = gradient.clone()
    lost[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    step = ascend(torch.zeros_like(lost), lost, 0.02, 1.0, "linf")
    assert step[0, 0, 0, :3].tolist() == [0, 0, 0]
    assert torch.equal(step[1], 0.02 * gradient[1].sign())
    with pytest.warns(LostGradientWarning, match="not finite in 1 of 2 pictures"):
        warn_of_lost(lost)
    warn_of_lost(gradient)  # says nothing: warnings are errors here


@pytest.mark.parametrize("label", [0, 1])
def test_against_a_linear_model_the_corner_of_the_ball_is_found(label: int) -> None:
    weight, images = noise(1)[0], torch.full((1, 3, 4, 6), 0.5)
    right = Linear(weight, 1e3 if label else -1e3)  # so sure that it is never fooled
    attack = PGD(epsilon=0.1, steps=10, loss="margin")
    found = attack(right, images, torch.tensor([label]))
    corner = -weight.sign() if label else weight.sign()
    gain = ((found - images)[0] * weight).sum() / (0.1 * corner * weight).sum()
    assert gain.item() == pytest.approx(1, abs=1e-4)


def calls_of(attack: PGD, model: Linear, images: Tensor, labels: Tensor) -> list[int]:
    model.calls.clear()
    attack(model, images, labels, generator=torch.Generator().manual_seed(0))
    return [len(c) for c in model.calls]


def test_steps_starts_and_lengths_are_those_that_were_set() -> None:
    """Each start asks for `steps` gradients and looks at the end once."""
    weight = torch.ones(3, 4, 6)
    images, labels = torch.full((2, 3, 4, 6), 0.5), torch.tensor([0, 0])
    never = Linear(weight, -1e3)
    attack = PGD(epsilon=0.1, steps=4, restarts=3, random_start=False, loss="margin")
    assert calls_of(attack, never, images, labels) == [2] * 15
    assert torch.equal(never.calls[0], images)  # the first start is the image
    assert not torch.equal(never.calls[5], images)  # later ones are not
    assert (never.calls[5] - images).abs().max() <= 0.1 + 1e-6
    step = (never.calls[1] - never.calls[0]).abs()
    assert torch.allclose(step, torch.full_like(step, 2.5 * 0.1 / 4))
    short = PGD(epsilon=0.1, steps=4, step_size=0.01, random_start=False, loss="margin")
    calls_of(short, never, images, labels)
    step = (never.calls[1] - never.calls[0]).abs()
    assert torch.allclose(step, torch.full_like(step, 0.01))
    inside_ball = PGD(epsilon=0.1, steps=1, loss="margin")
    calls_of(inside_ball, never, images, labels)
    assert not torch.equal(never.calls[0], images)
    bright = torch.ones(1, 3, 4, 6)
    calls_of(inside_ball, never, bright, labels[:1])
    assert all(c.max() <= 1 for c in never.calls)


def test_a_fooled_image_is_left_alone_unless_the_loss_is_to_be_raised() -> None:
    weight = torch.full((3, 4, 6), 1.0)
    images, labels = torch.full((2, 3, 4, 6), 0.5), torch.tensor([0, 1])
    fooled = Linear(weight, -35.0)  # 36 − 35 > 0: the first is fooled as it is
    attack = PGD(epsilon=0.004, steps=3, random_start=False, restarts=2, loss="margin")
    assert calls_of(attack, fooled, images, labels) == [2, 1, 1, 1, 1, 1, 1, 1]
    assert calls_of(attack.exhaustive(), fooled, images, labels) == [2] * 8
    assert calls_of(attack, fooled, images[:1], labels[:1]) == [1]
    found = attack.exhaustive()(fooled, images, labels)
    assert (found[0] - images[0]).amin() == pytest.approx(0.004, rel=1e-3)


def test_one_step_has_the_length_of_the_ball_or_its_own() -> None:
    weight = noise(1)[0]
    images, labels = torch.full((1, 3, 4, 6), 0.5), torch.tensor([0])
    never = Linear(weight, -30.0)
    for attack, length in ((FGSM(epsilon=0.1), 0.1), (FGSM(epsilon=0.1, step_size=0.03), 0.03)):
        never.calls.clear()
        attack(never, images, labels)
        assert len(never.calls) == 2 and torch.equal(never.calls[0], images)
        assert torch.allclose(never.calls[1] - images, length * weight.sign(), atol=1e-6)
    never.calls.clear()
    FGSM(epsilon=0.1, random_start=True)(never, images, labels)
    assert not torch.equal(never.calls[0], images)
