"""APGD and Square, query by query, against the papers' algorithms on models that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vitreous.attacks import ATTACKS
from vitreous.attacks.apgd import APGD, Ascent, Point, TargetedAPGD, _checkpoints
from vitreous.attacks.base import Goal
from vitreous.attacks.square import HALVINGS, Square

CLEAN = torch.full((1, 3, 6, 6), 0.5)
LABEL = torch.tensor([0])


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Wave(nn.Module):
    """Logits of waves over the pixels, `sure` of class 0: it is never fooled. Keeps what it saw."""

    def __init__(self, classes: int = 2, sure: float = 1e3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 108, generator=source(1)))
        self.sure, self.calls = sure, []
        self.eval()

    def logits(self, images: Tensor) -> Tensor:
        waves = (9 * images.flatten(1)[:, None] * self.weight).sin().sum(2)
        return waves + torch.eye(len(self.weight))[0] * self.sure

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(images.detach().clone())
        return self.logits(images)

    def margin(self, images: Tensor) -> tuple[float, Tensor]:
        """The largest other logit minus that of class 0, and its gradient."""
        variable = images.detach().clone().requires_grad_()
        logits = self.logits(variable)
        value = logits[:, 1:].amax(1) - logits[:, 0]
        return float(value.detach()), torch.autograd.grad(value.sum(), variable)[0]


def held(images: Tensor, epsilon: float) -> Tensor:
    return torch.maximum(torch.minimum(images, CLEAN + epsilon), CLEAN - epsilon).clamp(0, 1)


def algorithm_1(model: Wave, start: Tensor, epsilon: float, steps: int) -> list[Tensor]:
    """Croce and Hein 2020, Algorithm 1: what is looked at; it goes on from the best at rest."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    checks = [math.ceil(round(share * steps, 6)) for share in shares[:-1]]
    size, now, before, seen = 2 * epsilon, start, start, [start]
    (value, slope), rises, changed = model.margin(now), 0, True
    best = last_best = value
    top = (now, value, slope)
    for step in range(1, steps + 1):
        ahead = held(now + size * slope.sign(), epsilon)
        share = 1.0 if step == 1 else 0.75
        new = held(now + share * (ahead - now) + (1 - share) * (now - before), epsilon)
        seen.append(new)
        risen, slope = model.margin(new)
        rises += risen > value
        before, now, value = now, new, risen
        if value > best:
            best, top = value, (now, value, slope)
        if step in checks[1:]:
            since = step - max(c for c in checks if c < step)
            stuck = not changed and best <= last_best
            changed = rises < 0.75 * since or stuck
            if changed:
                size, (now, value, slope) = size / 2, top
                before = now
            rises, last_best = 0, best
    return seen


@pytest.mark.parametrize("steps", [7, 11, 18, 26, 40])
def test_apgd_looks_where_its_algorithm_looks(steps: int) -> None:
    model, epsilon = Wave(), 0.3
    attack = APGD(epsilon=epsilon, steps=steps, restarts=2, loss="margin")
    found = attack(model, CLEAN, LABEL, generator=source())
    draws = source()
    expected: list[Tensor] = []
    for _ in range(2):
        noise = (2 * torch.rand(CLEAN.shape, generator=draws) - 1) * epsilon
        expected += algorithm_1(model, held(CLEAN + noise, epsilon), epsilon, steps)
    assert len(model.calls) == len(expected) == 2 * (1 + steps)
    for seen, wanted in zip(model.calls, expected):
        torch.testing.assert_close(seen, wanted, atol=2e-6, rtol=0)
    best = max(expected, key=lambda images: model.margin(images)[0])
    torch.testing.assert_close(found, best, atol=2e-6, rtol=0)


def test_checkpoints_are_those_of_the_paper() -> None:
    assert _checkpoints(100) == {22, 41, 57, 70, 80, 87, 93, 99}
    assert _checkpoints(10) == {3, 5, 6, 7, 8, 9, 10}


def point(*losses: float) -> Point:
    values = torch.tensor(losses)
    images = values.view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    return Point(images, values, images + 0.5)


def test_a_step_is_halved_where_it_stalls_or_is_stuck() -> None:
    """Of ten steps the first image rose in 8, the second in 7; the third is stuck at its best."""
    count = 4
    state = Ascent(
        rows=torch.arange(count),
        clean=point(*[0.0] * count).images,
        now=point(*[1.0] * count),
        before=point(*[0.5] * count).images,
        top=point(*[2.0] * count),
        step_size=torch.full((count,), 0.4),
        rises=torch.tensor([8.0, 7.0, 9.0, 9.0]),
        halved=torch.tensor([False, False, False, True]),
        checked_loss=torch.tensor([1.5, 1.5, 2.0, 2.0]),
    )
    made = state.checked(10)
    assert made.halved.tolist() == [False, True, True, False]
    assert made.step_size.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.4])
    assert made.now.loss.tolist() == [1, 2, 2, 1] == made.now.images[:, 0, 0, 0].tolist()
    assert made.now.gradient[:, 0, 0, 0].tolist() == [1.5, 2.5, 2.5, 1.5]
    assert made.before[:, 0, 0, 0].tolist() == [0.5, 2, 2, 0.5]
    assert made.rises.tolist() == [0] * 4 and made.checked_loss.tolist() == [2] * 4
    moved = state.moved(point(3.0, 1.0, 2.0, 1.5))
    assert moved.rises.tolist() == [9, 7, 10, 10] and moved.top.loss.tolist() == [3, 2, 2, 2]
    assert moved.before[:, 0, 0, 0].tolist() == [1] * 4
    assert moved[torch.tensor([2])].rows.tolist() == [2]


def test_a_start_that_fools_ends_the_search() -> None:
    easy = Wave(sure=-1e3)
    APGD(epsilon=0.1, steps=5, restarts=3)(easy, CLEAN, LABEL, generator=source())
    assert len(easy.calls) == 1


@pytest.mark.parametrize(("asked", "used"), [(2, 2), (9, 3)])
def test_targets_are_the_likeliest_wrong_classes(asked: int, used: int) -> None:
    model, towards = Wave(classes=4), []
    attack = TargetedAPGD(epsilon=0.1, steps=3, restarts=2, classes=asked)
    assert attack.for_classes(4).classes == used and attack.for_classes(1).classes == 1
    logits = model.logits(CLEAN)
    ranked = (logits[0, 1:].argsort(descending=True) + 1).tolist()
    aims = attack._aims(model, CLEAN, Goal(LABEL))
    assert [int(aim) for aim in aims] == ranked[:used]
    given = torch.tensor([3])
    assert attack._aims(model, CLEAN, Goal(LABEL, given)) == [given]
    model.calls.clear()
    attack(model, CLEAN, LABEL, generator=source())
    assert len(model.calls) == 1 + used * 2 * (1 + 3) and not towards
    assert (TargetedAPGD().classes, TargetedAPGD().steps, APGD().steps) == (9, 100, 100)
    assert (TargetedAPGD().loss, APGD().loss, TargetedAPGD().restarts) == (
        "dlr",
        "cross_entropy",
        1,
    )


def test_targets_are_given_up_once_one_fools() -> None:
    easy = Wave(classes=5, sure=-1e3)
    TargetedAPGD(epsilon=0.1, steps=3)(easy, CLEAN, LABEL, generator=source())
    assert len(easy.calls) == 2, "one pass ranks the classes, and the first start fools"


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "apgd_t", "square"])
def test_settings_below_the_least_are_refused(name: str) -> None:
    kind = ATTACKS[name]
    for setting in ("steps", "restarts", "classes", "queries"):
        if setting in kind.__dataclass_fields__:
            with pytest.raises(ValueError, match=f"expected {setting} of at least 1, found 0"):
                kind(**{setting: 0})
            kind(**{setting: 1})


def changed_box(first: Tensor, second: Tensor) -> tuple[int, int]:
    """Height and width of what differs between two images."""
    differs = (first != second).any(1)[0]
    rows, columns = differs.any(1).nonzero().flatten(), differs.any(0).nonzero().flatten()
    if not len(rows):
        return 0, 0
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def test_square_tries_one_square_at_a_time_and_keeps_what_is_better() -> None:
    model, epsilon, queries, share = Wave(), 0.125, 120, 0.5
    attack = Square(epsilon=epsilon, queries=queries, first_share=share)
    found = attack(model, CLEAN, LABEL, generator=source())
    clean, stripes, *tried = model.calls
    assert torch.equal(clean, CLEAN) and len(tried) == queries
    assert (stripes - CLEAN).abs().unique().tolist() == [epsilon]
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes)), "a stripe is a column"
    now, sides = stripes, []
    for query, proposal in enumerate(tried):
        halvings = sum(10_000 * query / queries > border for border in HALVINGS)
        side = max(1, min(round(math.sqrt(share / 2**halvings * 36)), 5))
        box = changed_box(now, proposal)
        assert box in ((0, 0), (side, side)), "its colours are where they were, or all change"
        sides.append(side)
        assert (proposal - CLEAN).abs().unique().tolist() == [epsilon]
        for plane in range(3):
            assert len((proposal - now)[0, plane].unique()) <= 3
        if model.margin(proposal)[0] > model.margin(now)[0]:
            now = proposal
    assert sides[0] == 4 and sides[-1] == 1 and len(set(sides)) > 2
    assert model.margin(now)[0] > model.margin(stripes)[0]
    best = max([clean, stripes, *tried], key=lambda images: model.margin(images)[0])
    assert torch.equal(found, best)
    # Squares reach the edges.
    places = torch.stack([(p - stripes).abs().amax(1)[0] > 0 for p in tried]).any(0)
    assert places[0].any() and places[-1].any() and places[:, 0].any() and places[:, -1].any()


def test_square_asks_nothing_of_what_is_fooled() -> None:
    easy = Wave(sure=-1e3)
    Square(epsilon=0.1, queries=5)(easy, CLEAN, LABEL, generator=source())
    assert sum(len(call) for call in easy.calls) == 1
    assert (Square().queries, Square().first_share) == (5000, 0.8)


def test_squares_shrink_where_the_papers_do_and_stay_in_the_image() -> None:
    """At these of 10,000 queries the published code halves the share of the image."""
    assert HALVINGS == (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    model, bright = Wave(), torch.full((1, 3, 6, 6), 0.97)
    small = Square(epsilon=0.1, queries=3, first_share=1.0)
    small(model, bright, LABEL, generator=source())
    assert all(call.min() >= 0.87 - 1e-6 and call.max() <= 1 for call in model.calls)
    assert max(changed_box(model.calls[1], model.calls[2])) <= 5, "a row is left as it was"
