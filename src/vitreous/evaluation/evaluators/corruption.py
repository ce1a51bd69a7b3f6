"""Corrupted images: noise and blur of the model's view, and the parts of ImageNet-C."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vitreous.evaluation.metrics import DRAWS, mean_interval, percentiles
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import Curve
from vitreous.evaluation.test_sets.base import class_map
from vitreous.results import Record, accuracy_record

# Severities 1 to 5 of ImageNet-C (Hendrycks and Dietterich 2019): standard deviations of the
# noise in units of [0, 1], and of the blur in pixels of a 224 px picture.
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """Gaussian noise or blur, at the severities of ImageNet-C.

    It is applied to the model's view (not to the file), and noise follows from the image's name,
    so that every model sees the same.

    Attributes:
        kind: `gaussian_noise` or `gaussian_blur`.
        severity: 1 to 5.
    """

    kind: Literal["gaussian_noise", "gaussian_blur"] = "gaussian_noise"
    severity: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.severity <= 5:
            raise ValueError(f"severity: expected 1 to 5, found {self.severity}")

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Perturb (B, 3, H, W) in [0, 1]."""
        if self.kind == "gaussian_noise":
            noise = torch.stack([_noise(images.shape[1:], int(i)) for i in seeds])
            scaled = NOISE[self.severity - 1] * noise.to(images.device, images.dtype)
            return (images + scaled).clamp(0, 1)
        sigma = BLUR[self.severity - 1] * images.shape[-1] / 224
        size = 2 * round(4 * sigma) + 1
        limit = min(images.shape[-2:]) - 1
        return F.gaussian_blur(images, [min(size, limit - 1 + limit % 2)] * 2, [sigma, sigma])

    def settings(self) -> dict[str, Any]:
        """What records say."""
        return {"corruption": self.kind, "severity": self.severity}


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def perturbation_records(
    base: Predictions, changed: Sequence[Predictions]
) -> tuple[list[Record], dict[str, Any]]:
    """Records and the curve of noise and blur.

    Args:
        base: Answers on the images as they are.
        changed: Answers on the same images after each corruption.
    """
    if not changed:
        return [], {}
    convention = {"convention": base.conventions[0].name}
    records, curve = [], Curve("kind", "severity")
    for part in changed:
        right, n = int(part.correct()[part.counted].sum()), int(part.counted.sum())
        settings, name = {**convention, **part.change}, base.test_set.name
        records.append(accuracy_record("corruptions", name, "top1", right, n, **settings))
        curve.add(right, n, part.change["corruption"], part.change["severity"])
    return records, {"perturbations": curve.columns}


def corruption_records(parts: Sequence[Predictions]) -> list[Record]:
    """mCE, mean error and mean top-1 of ImageNet-C from its parts, with bootstrap intervals.

    mCE is over the 15 corruptions of the paper and is left out where one of them, or a severity,
    is missing; the mean error is over the corruptions that are there (the 4 extra ones apart).
    """
    facts = class_map("imagenet_c")
    paper = [c for g in ("noise", "blur", "weather", "digital") for c in facts["groups"][g]]
    cells = {k: v for k, v in _cells(parts).items() if k[0] in paper}
    if not cells:
        return []
    kinds, severities = {c for c, _ in cells}, sorted({s for _, s in cells})
    settings: dict[str, Any] = {
        "convention": parts[0].conventions[0].name,
        "corruptions": len(kinds),
        "severities": len(severities),
    }
    count = int(sum(len(p.rows) for p in cells.values()))
    mean, interval = _weighted_error(cells, dict.fromkeys(kinds, 1 / len(kinds)))
    flipped = (1 - interval[1], 1 - interval[0])
    records = [
        Record("shifts", "imagenet-c", "top1", 1 - mean, count, flipped, settings),
        Record("shifts", "imagenet-c", "mean_error", mean, count, interval, settings),
    ]
    if len(kinds) == len(paper) and severities == [1, 2, 3, 4, 5]:
        shares = {c: 1 / (len(kinds) * facts["alexnet_error"][c]) for c in kinds}
        mce, interval = _weighted_error(cells, shares)
        records.append(Record("shifts", "imagenet-c", "mce", mce, count, interval, settings))
    return records


def corruption_table(parts: Sequence[Predictions]) -> dict[str, Any]:
    """Accuracy by corruption and severity, as `vitreous.evaluation` describes it."""
    cells = _cells(parts)
    corruptions = list(dict.fromkeys(c for c, _ in cells))
    severities = sorted({s for _, s in cells})

    def accuracy(corruption: str, severity: int) -> float | None:
        cell = cells.get((corruption, severity))
        return None if cell is None else float(cell.correct()[cell.counted].mean())

    errors = [_weighted_error({k: v for k, v in cells.items() if k[0] == c}) for c in corruptions]
    known = class_map("imagenet_c")["alexnet_error"]
    return {
        "corruption": corruptions,
        "severity": severities,
        "top1": [[accuracy(c, s) for s in severities] for c in corruptions],
        "n": [
            [len(cells[c, s].rows) if (c, s) in cells else 0 for s in severities]
            for c in corruptions
        ],
        "error": [error for error, _ in errors],
        "error_low": [low for _, (low, _) in errors],
        "error_high": [high for _, (_, high) in errors],
        "alexnet_error": [known.get(c) for c in corruptions],
    }


Cells = dict[tuple[str, int], Predictions]


def _cells(parts: Sequence[Predictions]) -> Cells:
    return {(p.test_set.settings["corruption"], p.test_set.settings["severity"]): p for p in parts}


def _weighted_error(
    cells: Cells, weights: dict[str, float] | None = None
) -> tuple[float, tuple[float, float]]:
    """Σ over corruptions of weight · error (mean over severities), and its interval.

    Where all cells show the same images the bootstrap draws images, each with all its cells; else
    it draws the images of each cell on their own.
    """
    weights = weights or {corruption: 1.0 for corruption, _ in cells}
    levels = {c: sum(kind == c for kind, _ in cells) for c, _ in cells}
    share = {key: weights[key[0]] / levels[key[0]] for key in cells}
    wrong = {key: ~cell.correct()[cell.counted] for key, cell in cells.items()}
    value = float(sum(share[key] * rows.mean() for key, rows in wrong.items()))
    names = {_image_names(cell) for cell in cells.values()}
    if len(names) == 1:
        each = np.sum([share[key] * rows for key, rows in wrong.items()], axis=0)
        return value, mean_interval(each)
    random = np.random.default_rng(0)
    drawn = [
        share[key] * random.binomial(len(rows), rows.mean(), DRAWS) / len(rows)
        for key, rows in wrong.items()
    ]
    return value, percentiles(np.sum(drawn, axis=0))


def _image_names(cell: Predictions) -> int:
    """A number that tells which images a cell shows."""
    indices = cell.rows["index"][cell.counted].tolist()
    return hash(tuple(cell.dataset.name(i) for i in indices))
