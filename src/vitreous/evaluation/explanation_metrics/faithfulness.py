"""What the model says when pixels go by their relevance: see also `evaluation.pixel_removal`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from vitreous.evaluation.explanation_metrics.ranks import descending_orders

Scores = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to what the model says of the target (B,)."""

BESIDE, DIAGONAL = 1 / 6, 1 / 12


def pixel_flipping(scores: Scores, images: Tensor, maps: Tensor, steps: int) -> Tensor:
    """Pixel flipping (Bach et al. 2015, section "Evaluation"): scores as the relevant pixels go.

    Args:
        scores: The model's score of the target.
        images: (B, C, H, W).
        maps: (B, 1, H, W).
        steps: In how many steps all pixels are set to 0, the most relevant first.

    Returns:
        (B, steps) scores after each step; a low mean is good.
    """
    order = torch.from_numpy(_order(maps)).to(images.device)
    width = math.ceil(order.shape[1] / steps)
    changed, curve = images.flatten(2).clone(), []
    for gone in order.split(width, 1):
        changed.scatter_(2, gone[:, None].expand(-1, changed.shape[1], -1), 0.0)
        curve.append(scores(changed.view_as(images)))
    return torch.stack(curve, 1)


def _order(maps: Tensor) -> np.ndarray:
    """Places of the pixels of maps (B, 1, H, W), the most relevant first: (B, H · W)."""
    return descending_orders(maps.detach().flatten(1).cpu().numpy())


def curve_mean(curve: Tensor) -> Tensor:
    """Mean height (B,) of curves (B, steps) by trapezoids of equal width."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


def infidelity(
    scores: Scores, images: Tensor, maps: Tensor, perturbed: Iterable[Tensor], scaled: bool = False
) -> Tensor:
    """Infidelity (Yeh et al. 2019, definition 2.1): `E_I [(I · Φ - (f(x) - f(x - I)))²]`.

    Args:
        scores: f, the model's score of the target.
        images: x (B, C, H, W).
        maps: Φ (B, 1, H, W), the same for all channels.
        perturbed: Draws of x - I, each (B, C, H, W).
        scaled: Take for Φ the best multiple of it, as section 2.2 allows, and give the error as a
            share of the mean of (f(x) - f(x - I))², so that maps of any scale can be compared.

    Returns:
        (B,), low is good; at most 1 where scaled.
    """
    first = scores(images)
    pairs = [(first - scores(other), _expected(images, maps, other)) for other in perturbed]
    change, expected = (torch.stack(values, 1) for values in zip(*pairs))
    return unexplained(change, expected) if scaled else (expected - change).square().mean(1)


def score_changes(scores: Scores, images: Tensor, perturbed: Iterable[Tensor]) -> Tensor:
    """`f(x) - f(x - I)` (B, draws): no map is in it, so that it serves many."""
    first = scores(images)
    return torch.stack([first - scores(other) for other in perturbed], 1)


def expected_changes(images: Tensor, maps: Tensor, perturbed: Iterable[Tensor]) -> Tensor:
    """`I · Φ` (B, draws) of maps Φ (B, 1, H, W)."""
    return torch.stack([_expected(images, maps, other) for other in perturbed], 1)


def _expected(images: Tensor, maps: Tensor, other: Tensor) -> Tensor:
    return (images - other).mul_(maps).sum((1, 2, 3))


def unexplained(change: Tensor, expected: Tensor) -> Tensor:
    """Infidelity of the best multiple of a map, as a share of the mean squared change (B,).

    Args:
        change: Of the score, see `score_changes`.
        expected: By the map, see `expected_changes`.
    """
    best = (expected * change).sum(1) / expected.square().sum(1).clamp(min=1e-12)
    error = (best[:, None] * expected - change).square().mean(1)
    return error / change.square().mean(1).clamp(min=1e-12)


def impute(
    image: np.ndarray,
    gone: np.ndarray,
    noise: np.ndarray | float = 0.0,
    work: np.ndarray | None = None,
) -> np.ndarray:
    """Noisy linear imputation (Rong et al. 2022, eq. 5): each pixel the mean of its neighbours.

    Direct neighbours weigh 1/6 and diagonal ones 1/12; beyond the border there are none.

    Args:
        image: (C, H, W).
        gone: (K,) places of the pixels in H · W that are to be filled in.
        noise: Added to them, of shape (K, C).
        work: Room for the matrix, K · (W + 2) numbers; several calls can share it.

    Returns:
        (C, H, W).
    """
    channels, height, width = image.shape
    if not len(gone):
        return image.copy()
    if isinstance(noise, np.ndarray):
        order = np.argsort(gone)
        places, added = gone[order], noise[order].T
    else:
        places, added = np.sort(gone), noise
    system = _Neighbourhood.of(places, height, width)
    known = np.zeros((channels, height + 2, width + 2))
    known[:, 1:-1, 1:-1] = image
    known.reshape(channels, -1)[:, system.places] = 0.0
    wanted = _around(known).reshape(channels, -1)[:, places]
    filled = image.reshape(channels, -1).copy()
    work = np.empty(len(gone) * (width + 2)) if work is None else work
    filled[:, places] = system.solve(wanted, work) + added
    return filled.reshape(image.shape)


def _around(bordered: np.ndarray) -> np.ndarray:
    """What the neighbours of each pixel have together, by their weights, where itself has nothing.

    The weights are 1, 2, 1 along both axes over 12, but for the 4 of the middle, which is zero.

    Args:
        bordered: (C, H + 2, W + 2), zero where there is no value.

    Returns:
        (C, H, W).
    """
    rows = bordered[:, :-2] + bordered[:, 2:]
    rows += 2 * bordered[:, 1:-1]
    both = rows[..., :-2] + rows[..., 2:]
    both += 2 * rows[..., 1:-1]
    both *= DIAGONAL
    return both


@dataclasses.dataclass(frozen=True)
class _Neighbourhood:
    """The equations of missing pixels: what each has of its neighbours, less it, is zero.

    Pixels are numbered along the rows, so that the matrix is a band about a row of the image wide;
    it is symmetric and positive.

    Attributes:
        places: (K,) of the missing pixels in an image with a border of one pixel, ascending.
        later: How many numbers further each neighbour is that comes later, (4, K): beside, below to
            the left, below, below to the right; 0 where it is not missing.
        total: Weight of all neighbours within the image, (K,).
    """

    places: np.ndarray
    later: np.ndarray
    total: np.ndarray

    @classmethod
    def of(cls, gone: np.ndarray, height: int, width: int) -> _Neighbourhood:
        """Of missing pixels (K,) in ascending order."""
        wide, own = width + 2, np.arange(len(gone))
        row, column = np.divmod(gone, width)
        places = gone + (row * 2 + wide + 1)
        number = np.zeros((height + 2) * wide, np.int64)
        number[places] = own
        later = number[places + np.array([[1], [wide - 1], [wide], [wide + 1]])] - own
        down, across = (
            4 - (at == 0) - (at == size - 1) for at, size in ((row, height), (column, width))
        )
        return cls(places, np.maximum(later, 0, out=later), (down * across - 4) * DIAGONAL)

    def solve(self, wanted: np.ndarray, work: np.ndarray) -> np.ndarray:
        """Values (C, K) of the missing pixels.

        Args:
            wanted: What the neighbours that are not missing give to each, (C, K).
            work: Room for the matrix.
        """
        band = self._band(work)  # becomes its factor
        return solveh_banded(band, wanted.T, True, lower=True, check_finite=False).T

    def _band(self, work: np.ndarray) -> np.ndarray:
        """The lower band (width, K) of the matrix, in the room that is given."""
        width = int(self.later.max(initial=0)) + 1
        cells = work[: len(self.total) * width]  # column by column, the diagonal first
        cells[:] = 0.0
        columns = np.arange(0, len(cells), width)
        for shift, weight in zip(self.later, (BESIDE, DIAGONAL, BESIDE, DIAGONAL)):
            cells[columns + shift] = -weight
        cells[::width] = self.total
        return cells.reshape(len(self.total), width).T


def remove_and_debias(
    images: Tensor, maps: Tensor, share: float, seeds: Iterable[int], noise: float = 0.01
) -> Tensor:
    """ROAD (Rong et al. 2022): images whose most relevant pixels are imputed.

    Args:
        images: (B, C, H, W).
        maps: (B, 1, H, W).
        share: Of the pixels, above 0 and below 1.
        seeds: Of the noise, one an image.
        noise: Standard deviation of what is added to imputed pixels.

    Returns:
        (B, C, H, W); how often the model is still right is ROAD's curve, low is good.
    """
    order = _order(maps)
    count, filled = int(share * order.shape[1]), []
    work = np.empty(count * (images.shape[-1] + 2))
    for image, places, seed in zip(images.cpu().numpy().astype(np.float64), order, seeds):
        gone = places[:count]
        drawn = np.random.default_rng(seed).normal(0, noise, (count, len(image))) if noise else 0.0
        filled.append(impute(image, gone, drawn, work))
    return torch.from_numpy(np.stack(filled)).to(images)
