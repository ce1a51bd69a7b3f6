"""Relevance maps against foreground masks: the ImageNet-Segmentation protocol, and more."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitreous.attribution.scores import TOLERANCE, foreground_share, pointing_hits

__all__ = [
    "TOLERANCE",
    "average_precision",
    "foreground_share",
    "pointing_hits",
    "scores_of_counts",
    "segmentation_counts",
    "segmentation_scores",
]

COUNTS = ("correct", "labelled", "intersection0", "intersection1", "union0", "union1")


def segmentation_counts(relevance: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Count each image for the ImageNet-Segmentation protocol (Chefer et al. 2021).

    Each map is scaled by its own minimum and maximum; foreground is what lies above its mean.

    Args:
        relevance: (N, 1, H, W) of any scale.
        labels: (N, H, W), 1 for foreground, 0 for background, negative for pixels to leave out.

    Returns:
        Pixel counts (N, 6), see `COUNTS`, and average precisions (N,).

    Raises:
        ValueError: If the shapes do not go together.
    """
    check_shapes(relevance, labels)
    maps = _scaled(relevance.detach().float().cpu())[:, 0]
    labels = labels.detach().cpu().long()
    predicted, known = (maps > maps.mean((1, 2), keepdim=True)).long(), labels >= 0
    columns = [(predicted == labels) & known, known]
    columns += [(predicted == v) & (labels == v) for v in (0, 1)]
    columns += [((predicted == v) | (labels == v)) & known for v in (0, 1)]
    counts = torch.stack([c.sum((1, 2)) for c in columns], 1).numpy()
    precision = [_average_precision(m, t) for m, t in zip(maps.numpy(), labels.numpy())]
    return counts, np.array(precision)


def scores_of_counts(counts: np.ndarray, precision: np.ndarray) -> dict[str, np.ndarray]:
    """Turn pixel counts (…, 6), summed over a set, and its mean precision (…) into the scores.

    Pixel accuracy and the intersection over union of the two classes come from totals over the
    set; the average precision is a mean over images.
    """
    tiny = np.spacing(1)
    union = counts[..., 2:4] / (tiny + counts[..., 4:6])
    return {
        "pixel_accuracy": counts[..., 0] / (tiny + counts[..., 1]),
        "mean_iou": union.mean(-1),
        "mean_ap": precision,
    }


def segmentation_scores(relevance: Tensor, labels: Tensor) -> dict[str, float]:
    """Score relevance maps by the ImageNet-Segmentation protocol (Chefer et al. 2021).

    Args:
        relevance: (N, 1, H, W) of any scale; each map is scaled by its own minimum and maximum.
        labels: (N, H, W), 1 for foreground, 0 for background, negative for pixels to leave out.

    Returns:
        `pixel_accuracy`, `mean_iou`, `mean_ap`, in [0, 1].

    Raises:
        ValueError: If the shapes do not go together.

    Examples:
        >>> maps = torch.tensor([[[[0.9, 0.1], [0.2, 0.0]]]])
        >>> scores = segmentation_scores(maps, torch.tensor([[[1, 0], [0, 0]]]))
        >>> scores["pixel_accuracy"], round(scores["mean_iou"], 6)
        (1.0, 1.0)
    """
    counts, precision = segmentation_counts(torch.as_tensor(relevance), torch.as_tensor(labels))
    scores = scores_of_counts(counts.sum(0), precision.mean())
    return {name: float(value) for name, value in scores.items()}


def check_shapes(relevance: Tensor, labels: Tensor) -> None:
    """Refuse maps and labels that do not go together; raises ValueError."""
    n, channels, height, width = relevance.shape if relevance.ndim == 4 else (0, 0, 0, 0)
    if channels != 1 or labels.shape != (n, height, width):
        raise ValueError(
            "expected relevance (N, 1, H, W) and labels (N, H, W), found "
            f"{tuple(relevance.shape)} and {tuple(labels.shape)}"
        )


def _scaled(maps: Tensor) -> Tensor:
    low = maps.amin((2, 3), keepdim=True)
    return torch.nan_to_num((maps - low) / (maps.amax((2, 3), keepdim=True) - low))


def _average_precision(relevance: np.ndarray, labels: np.ndarray) -> float:
    """Average precision of the two classes' scores together, as the protocol has it."""
    known = labels.ravel() >= 0
    scores, foreground = relevance.ravel()[known], labels.ravel()[known] == 1
    if not len(scores):
        return 0.0
    truth = np.concatenate([~foreground, foreground])
    return average_precision(truth, np.concatenate([1 - scores, scores]))


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Compute Σ (recallᵢ − recallᵢ₋₁) · precisionᵢ over the distinct scores, from the highest.

    Args:
        truth: (N,) bool, with at least one true.
        scores: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (ends + 1)))
