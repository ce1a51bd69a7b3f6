"""Turned images: how often a classifier is right, and how often its answer stays the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitreous.data.rotation import rotate
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import Curve
from vitreous.evaluation.rows import READ
from vitreous.evaluation.test_sets.base import Condition
from vitreous.results import Record, accuracy_record


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Turn images about their centre.

    Quarter turns move pixels and change none; other angles interpolate (bilinear), and corners
    from outside become black.

    Attributes:
        angle: Degrees, counter-clockwise.
        disc: Black out everything outside the inscribed disc first, at every angle, so that
            corners tell nothing and angles are comparable.
    """

    angle: float = 90.0
    disc: bool = False

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Turn (B, 3, H, W)."""
        if self.disc:
            images = images * _disc(images)
        return rotate(images, self.angle)

    def settings(self) -> Condition:
        """What records say."""
        turn: Condition = {"angle": float(self.angle)}
        return {**turn, "disc": True} if self.disc else turn


def _disc(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    x = torch.linspace(-1, 1, width, device=images.device)[None]
    return ((x * x + y * y) <= 1).to(images.dtype)


def rotation_records(
    base: Predictions, turned: Sequence[Predictions]
) -> tuple[list[Record], dict[str, object]]:
    """Records (`top1`, `invariance`) and the curve of turned images, from angle 0 on.

    With `disc`, what is turned is another image, and `turned` holds its own angle 0.

    Args:
        base: Answers on the images as they are.
        turned: Answers on the same images after each turn.
    """
    if not turned:
        return [], {}
    turned = list(turned)
    if not any(p.condition["angle"] == 0 for p in turned):
        turned.insert(0, dataclasses.replace(base, condition={"angle": 0.0}))
    base = next(p for p in turned if p.condition["angle"] == 0)
    convention = {"convention": base.conventions[0].name}
    name, records, curve = base.test_set.name, [], Curve("angle", "same_prediction")
    for part in turned:
        right, n = int(part.correct()[part.counted].sum()), int(part.counted.sum())
        same, settings = _same(base, part), {**convention, **part.condition}
        records.append(accuracy_record("rotation", name, "top1", right, n, **settings))
        if part is not base:
            kept = int(same.sum())
            record = accuracy_record("rotation", name, "invariance", kept, len(same), **settings)
            records.append(record)
        curve.add(right, n, part.condition["angle"], float(same.mean()) if len(same) else None)
    records += _invariance(base, turned, convention)
    return records, {"rotation": curve.columns}


def _same(base: Predictions, other: Predictions) -> np.ndarray:
    """(N,) bool: the prediction is the same; unreadable images do not count."""
    read = base.rows["status"] == READ
    return (base.rows["prediction0"] == other.rows["prediction0"])[read]


def _invariance(
    base: Predictions, turned: Sequence[Predictions], convention: dict[str, str]
) -> list[Record]:
    """Share of images whose prediction is one and the same at 0, 90, 180 and 270 degrees."""
    quarters = {p.condition["angle"] % 360: p for p in turned}
    if not {90.0, 180.0, 270.0} <= set(quarters):
        return []
    same = np.logical_and.reduce([_same(base, quarters[a]) for a in (90.0, 180.0, 270.0)])
    return [
        accuracy_record(
            "rotation",
            base.test_set.name,
            "invariance",
            int(same.sum()),
            len(same),
            angles="0, 90, 180, 270",
            **convention,
            **({"disc": True} if base.condition.get("disc") else {}),
        )
    ]
