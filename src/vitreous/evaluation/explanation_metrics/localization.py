"""How much of a map's relevance is where the object is; see also `vitreous.attribution.scores`."""

from __future__ import annotations

import numpy as np

from vitreous.evaluation.explanation_metrics.ranks import average_ranks, most_relevant


def rank_accuracy(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Relevance rank accuracy (Arras et al. 2022, eq. 3): `|P_top K ∩ GT| / |GT|`, K = |GT|.

    Args:
        maps: (B, H, W); of equally relevant pixels those that come first go first.
        masks: (B, H, W) bool, True = foreground.

    Returns:
        (B,) in [0, 1]; NaN where a mask is empty.
    """
    flat, truth = maps.reshape(len(maps), -1), masks.reshape(len(masks), -1)
    size = truth.sum(1)
    hits = [own[most_relevant(row, count)].sum() for row, own, count in zip(flat, truth, size)]
    among = np.array(hits, dtype=np.float64)
    return np.where(size > 0, among / np.maximum(size, 1), np.nan)


def roc_area(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of pixels as foreground (Fawcett 2006, section 7).

    It is the probability that a pixel of the foreground is more relevant than one of the
    background, ties counting half.

    Args:
        maps: (B, H, W).
        masks: (B, H, W) bool, True = foreground.

    Returns:
        (B,) in [0, 1]; NaN where a mask is empty or full.
    """
    ranks = np.stack([average_ranks(row) for row in maps.reshape(len(maps), -1)])
    truth = masks.reshape(len(masks), -1)
    inside = truth.sum(1)
    pairs = inside * (truth.shape[1] - inside)
    above = (ranks * truth).sum(1) - inside * (inside + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)
