"""From logits to rows: prediction and rank under each convention, confidence, NLL."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitreous.evaluation.rows import NOT_FINITE, UNREADABLE, item_type
from vitreous.evaluation.test_sets import Convention, TestSet

UNRANKED = 32_000


def row_type(conventions: tuple[Convention, ...]) -> np.dtype:
    """Type of a row: what is kept of an image, beside what every row has (`item_type`).

    Fields: `confidence`, the highest probability, and `nll`, minus the logarithm of the
    probability of the accepted classes, both under the first convention; for convention i
    `prediction<i>` (class or group) and `rank<i>` (how many candidates come before the best
    accepted one; 0 is right).
    """
    fields = [("confidence", "f4"), ("nll", "f4")]
    for i in range(len(conventions)):
        fields += [(f"prediction{i}", "i4"), (f"rank{i}", "i4")]
    return item_type(fields)


class Scorer:
    """Scores logits of one set's images under its conventions.

    Args:
        test_set: The set.
        num_classes: How many logits there are.
        device: Where the logits are.
    """

    def __init__(self, test_set: TestSet, num_classes: int, device: torch.device):
        self.type = row_type(test_set.conventions)
        self.conventions = test_set.conventions
        self.targets = torch.from_numpy(test_set.targets.astype(np.int64))
        self.accepted = [
            _accepted(test_set, c, num_classes).to(device) for c in test_set.conventions
        ]

    def rows(self, indices: Tensor, logits: Tensor) -> np.ndarray:
        """Score logits (B, C) of the images `indices` (B,); returns B rows."""
        rows = np.zeros(len(indices), self.type)
        rows["index"] = indices.numpy()
        finite = logits.isfinite().all(1)
        logits = torch.where(finite[:, None], logits.float(), torch.zeros_like(logits).float())
        targets = self.targets[indices].to(logits.device)
        for i, convention in enumerate(self.conventions):
            scores, accepted = candidates(logits, convention), self.accepted[i][targets]
            rows[f"prediction{i}"] = _named(scores.argmax(1), convention).cpu().numpy()
            rows[f"rank{i}"] = rank(scores, accepted).cpu().numpy()
            if i == 0:
                chances = scores.softmax(1)
                rows["confidence"] = chances.amax(1).cpu().numpy()
                rows["nll"] = (
                    -(scores.log_softmax(1).masked_fill(~accepted, -torch.inf))
                    .logsumexp(1)
                    .cpu()
                    .numpy()
                )
        return _mark(rows, (~finite).cpu().numpy(), NOT_FINITE)


def unreadable_rows(kind: np.dtype, count: int) -> np.ndarray:
    """Make rows of images that could not be read."""
    rows = np.zeros(count, kind)
    return _mark(rows, np.ones(len(rows), bool), UNREADABLE)


def candidates(logits: Tensor, convention: Convention) -> Tensor:
    """Scores (B, K) among which a convention decides; their softmax are probabilities."""
    if convention.groups is not None:
        chances = logits.softmax(1)
        means = torch.stack([chances[:, list(g)].mean(1) for g in convention.groups], 1)
        return means.clamp_min(torch.finfo(means.dtype).tiny).log()
    return logits if convention.classes is None else logits[:, list(convention.classes)]


def rank(scores: Tensor, accepted: Tensor) -> Tensor:
    """Count the candidates (B, K) that come before the best accepted one (B,).

    Of equal scores the first comes first, as in `argmax`. Where nothing is accepted the rank is
    `UNRANKED`.
    """
    best, where = scores.masked_fill(~accepted, -torch.inf).max(1, keepdim=True)
    places = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > best) | ((scores == best) & (places < where))
    return torch.where(accepted.any(1), before.sum(1), UNRANKED)


def _accepted(test_set: TestSet, convention: Convention, num_classes: int) -> Tensor:
    """Which candidates are right for each target: (targets, K) bool."""
    count = num_classes if convention.groups is None else len(convention.groups)
    table = torch.zeros(len(test_set.accepted), count, dtype=torch.bool)
    for row, classes in enumerate(test_set.accepted):
        table[row, list(classes[:1] if convention.first_only else classes)] = True
    return table if convention.classes is None else table[:, list(convention.classes)]


def _named(places: Tensor, convention: Convention) -> Tensor:
    if convention.classes is None:
        return places
    return torch.tensor(convention.classes, device=places.device)[places]


def _mark(rows: np.ndarray, where: np.ndarray, status: int) -> np.ndarray:
    """Set rows to what counts as wrong."""
    for name in rows.dtype.names or ():
        if name.startswith("prediction"):
            rows[name][where] = -1
        elif name.startswith("rank"):
            rows[name][where] = UNRANKED
        elif name in ("confidence", "nll"):
            rows[name][where] = np.nan
    rows["status"][where] = status
    return rows
