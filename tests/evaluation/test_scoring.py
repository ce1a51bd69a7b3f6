"""Rows of logits against a plain loop over images, classes and groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vitreous.evaluation.rows import NOT_FINITE, UNREADABLE
from vitreous.evaluation.scoring import UNRANKED, Scorer, candidates, row_type, unreadable_rows
from vitreous.evaluation.test_sets import Convention, TestSet

CLASSES = 9
ACCEPTED = ((3, 1), (0,), (), (8, 2, 5))
GROUPS = ((0, 1, 4), (3,), (8, 7), (2, 5, 6))
CONVENTIONS = {
    "all": Convention("all"),
    "first": Convention("first", first_only=True),
    "some": Convention("some", (8, 3, 0, 5)),
    "some first": Convention("some first", (1, 3, 8), first_only=True),
}


class Unopened:
    def __len__(self) -> int:
        return 6


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(v - max(values)) for v in values]
    return [p / sum(powers) for p in powers]


def by_hand(
    logits: list[float], right: list[int], convention: Convention
) -> tuple[int, int, float, float]:
    """Prediction, rank, confidence and NLL of one image."""
    right = right[:1] if convention.first_only else right
    if convention.groups is not None:
        chances = softmax(logits)
        named = list(range(len(convention.groups)))
        means = [sum(chances[c] for c in g) / len(g) for g in convention.groups]
        chances = [m / sum(means) for m in means]
    else:
        named = list(range(len(logits)) if convention.classes is None else convention.classes)
        chances = softmax([logits[c] for c in named])
    order = sorted(range(len(named)), key=lambda place: (-chances[place], place))
    ranks = [rank for rank, place in enumerate(order) if named[place] in right]
    chance = sum(p for p, name in zip(chances, named) if name in right)
    nll = -math.log(chance) if chance else math.inf
    return named[order[0]], ranks[0] if ranks else UNRANKED, max(chances), nll


def scored(conventions: tuple[Convention, ...], accepted: tuple, logits: torch.Tensor):
    targets = np.array([0, 1, 2, 3, 1, 0])[: len(logits)]
    test_set = TestSet("x", Unopened(), targets, accepted, conventions)
    indices = torch.arange(len(logits)).flip(0)
    rows = Scorer(test_set, CLASSES, torch.device("cpu")).rows(indices, logits)
    assert rows["index"].tolist() == indices.tolist()
    return rows, [list(accepted[targets[i]]) for i in indices]


@pytest.mark.parametrize("first", CONVENTIONS)
def test_rows_are_those_of_a_loop_over_classes(first: str) -> None:
    """Of several conventions the first gives confidence and NLL, each its prediction and rank."""
    others = [c for name, c in CONVENTIONS.items() if name != first]
    conventions = (CONVENTIONS[first], *others)
    logits = torch.randn(6, CLASSES) * 2
    rows, right = scored(conventions, ACCEPTED, logits)
    for row, accepted, values in zip(rows, right, logits.tolist()):
        assert row["status"] == 0
        for i, convention in enumerate(conventions):
            prediction, rank, confidence, nll = by_hand(values, accepted, convention)
            assert (row[f"prediction{i}"], row[f"rank{i}"]) == (prediction, rank)
            if i == 0:
                assert row["confidence"] == pytest.approx(confidence, rel=1e-5)
                assert row["nll"] == pytest.approx(nll, rel=1e-5)


def test_a_group_has_the_mean_probability_of_its_classes() -> None:
    convention = Convention("groups", groups=GROUPS)
    logits = torch.randn(6, CLASSES) * 2
    rows, right = scored((convention,), ((0,), (1,), (2,), (3, 1)), logits)
    for row, accepted, values in zip(rows, right, logits.tolist()):
        prediction, rank, confidence, nll = by_hand(values, accepted, convention)
        assert (row["prediction0"], row["rank0"]) == (prediction, rank)
        assert row["confidence"] == pytest.approx(confidence, rel=1e-5)
        assert row["nll"] == pytest.approx(nll, rel=1e-5)


def test_a_group_without_any_probability_has_a_finite_score() -> None:
    logits = torch.tensor([[0.0, 500.0]])
    scores = candidates(logits, Convention("two", groups=((0,), (1,))))
    assert scores.isfinite().all() and scores[0, 0] < -80 and scores[0, 1] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_has_no_answer_counts_as_wrong_under_every_convention(bad: float) -> None:
    conventions = (CONVENTIONS["all"], CONVENTIONS["some"])
    logits = torch.zeros(2, CLASSES)
    logits[0, 3] = bad
    unread = unreadable_rows(row_type(conventions), 3)
    assert len(unread) == 3
    rows, _ = scored(conventions, ACCEPTED, logits)
    assert rows["status"].tolist() == [NOT_FINITE, 0]
    assert unread["status"].tolist() == [UNREADABLE] * 3
    assert unread["index"].tolist() == [0] * 3 and unread["key"].tolist() == [0] * 3
    for row in (rows[0], *unread):
        assert [row["prediction0"], row["prediction1"]] == [-1, -1]
        assert [row["rank0"], row["rank1"]] == [UNRANKED, UNRANKED]
        assert np.isnan(row["confidence"]) and np.isnan(row["nll"])
    assert np.isfinite(rows[1]["confidence"])


def test_no_rank_among_any_set_of_classes_is_the_mark_of_none() -> None:
    assert UNRANKED > 21_841 and np.iinfo("i4").max >= UNRANKED
