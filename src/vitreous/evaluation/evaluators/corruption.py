"""Corrupted images: corruptions made in memory, and the parts of ImageNet-C."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitreous.data.class_maps import class_map
from vitreous.data.images import to_uint8
from vitreous.errors import nearest
from vitreous.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from vitreous.evaluation.metrics import DRAWS, mean_interval, percentiles
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import Curve
from vitreous.evaluation.test_sets.base import Condition
from vitreous.results import Record, accuracy_record

Cells = dict[tuple[str, int], Predictions]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One of ImageNet-C's corruptions, made in memory.

    It is applied to the model's view (not to the file), and what is random follows from the
    image's name, so that every model sees the same.

    Attributes:
        kind: Its name, for example `gaussian_noise` or `snow`.
        severity: 1 to 5.

    Raises:
        ValueError: For an unknown kind or severity.
    """

    kind: str = "gaussian_noise"
    severity: int = 3

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            raise ValueError(f"unknown corruption '{self.kind}'; {nearest(self.kind, CORRUPTIONS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity: expected 1 to 5, found {self.severity}")

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Corrupt (B, 3, H, W) in [0, 1]."""
        return torch.stack([self._corrupt(i, s) for i, s in zip(images, seeds.tolist())])

    def settings(self) -> Condition:
        """What records say."""
        return {"corruption": self.kind, "severity": self.severity}

    def _corrupt(self, image: Tensor, seed: int) -> Tensor:
        random = np.random.default_rng([seed, *self.kind.encode()])
        made = corrupt(to_uint8(image), self.kind, self.severity, random)
        return torch.from_numpy(made).to(image.device, image.dtype).permute(2, 0, 1) / 255


def paper_corruptions() -> list[str]:
    """The 15 corruptions that mCE is over."""
    groups = class_map("imagenet_c")["groups"]
    return [c for g in ("noise", "blur", "weather", "digital") for c in groups[g]]


def perturbation_records(
    base: Predictions, changed: Sequence[Predictions]
) -> tuple[list[Record], dict[str, object]]:
    """Records and the curve of corruptions made in memory.

    For all 15 of ImageNet-C's paper at all severities there are the mean error and, on ImageNet's
    classes, mCE, too.

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
        settings, name = {**convention, **part.condition}, base.test_set.name
        records.append(accuracy_record("corruptions", name, "top1", right, n, **settings))
        curve.add(right, n, part.condition["corruption"], part.condition["severity"])
    cells = {(p.condition["corruption"], p.condition["severity"]): p for p in changed}
    if _whole(cells):
        of_all = _mean_records("corruptions", base.test_set.name, _of_paper(cells), convention)
        known = base.test_set.num_classes == len(class_map("imagenet")["wnids"])
        records += [r for r in of_all if known or r.metric != "mce"]
    return records, {"perturbations": curve.columns}


def corruption_records(parts: Sequence[Predictions]) -> list[Record]:
    """mCE, mean error and mean top-1 of ImageNet-C from its parts, with bootstrap intervals.

    mCE is over the 15 corruptions of the paper and is left out where one of them, or a severity,
    is missing; the mean error is over the corruptions that are there (the 4 extra ones apart).
    """
    cells = _of_paper(_cells(parts))
    convention = {"convention": parts[0].conventions[0].name}
    return _mean_records("shifts", "imagenet-c", cells, convention) if cells else []


def _mean_records(
    suite: str, dataset: str, cells: Cells, convention: dict[str, str]
) -> list[Record]:
    kinds = {c for c, _ in cells}
    severities = len({s for _, s in cells})
    settings: dict[str, object] = {
        **convention,
        "corruptions": len(kinds),
        "severities": severities,
    }
    count = int(sum(len(p.rows) for p in cells.values()))
    mean, interval = _weighted_error(cells, dict.fromkeys(kinds, 1 / len(kinds)))
    flipped = None if interval is None else (1 - interval[1], 1 - interval[0])
    records = [
        Record(suite, dataset, "top1", 1 - mean, count, flipped, settings),
        Record(suite, dataset, "mean_error", mean, count, interval, settings),
    ]
    if _whole(cells):
        alexnet = class_map("imagenet_c")["alexnet_error"]
        shares = {c: 1 / (len(kinds) * alexnet[c]) for c in kinds}
        mce, interval = _weighted_error(cells, shares)
        records.append(Record(suite, dataset, "mce", mce, count, interval, settings))
    return records


def corruption_table(parts: Sequence[Predictions]) -> dict[str, object]:
    """Accuracy by corruption and severity, as `vitreous.evaluation` describes it."""
    cells = _cells(parts)
    corruptions = list(dict.fromkeys(c for c, _ in cells))
    severities = sorted({s for _, s in cells})

    def accuracy(corruption: str, severity: int) -> float | None:
        cell = cells.get((corruption, severity))
        return None if cell is None else float(cell.correct()[cell.counted].mean())

    errors = [_weighted_error({k: v for k, v in cells.items() if k[0] == c}) for c in corruptions]
    alexnet = class_map("imagenet_c")["alexnet_error"]
    return {
        "corruption": corruptions,
        "severity": severities,
        "top1": [[accuracy(c, s) for s in severities] for c in corruptions],
        "n": [
            [len(cells[c, s].rows) if (c, s) in cells else 0 for s in severities]
            for c in corruptions
        ],
        "error": [error for error, _ in errors],
        "error_low": [None if bounds is None else bounds[0] for _, bounds in errors],
        "error_high": [None if bounds is None else bounds[1] for _, bounds in errors],
        "alexnet_error": [alexnet.get(c) for c in corruptions],
    }


def _of_paper(cells: Cells) -> Cells:
    paper = paper_corruptions()
    return {key: cell for key, cell in cells.items() if key[0] in paper}


def _whole(cells: Cells) -> bool:
    """Whether all corruptions of the paper are there at all severities."""
    return {(c, s) for c in paper_corruptions() for s in SEVERITIES} <= set(cells)


def _cells(parts: Sequence[Predictions]) -> Cells:
    return {(p.test_set.settings["corruption"], p.test_set.settings["severity"]): p for p in parts}


def _weighted_error(
    cells: Cells, weights: dict[str, float] | None = None
) -> tuple[float, tuple[float, float] | None]:
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
        whole = sum(share.values())
        each = np.sum([share[key] / whole * rows for key, rows in wrong.items()], axis=0)
        bounds = mean_interval(each)
        return value, None if bounds is None else (whole * bounds[0], whole * bounds[1])
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
