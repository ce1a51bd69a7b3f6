"""Whether a map stays when the image hardly changes, and changes when the model or class does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.evaluation.explanation_metrics.ranks import average_ranks

Explain = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to maps (B, 1, H, W)."""


def max_sensitivity(explain: Explain, maps: Tensor, perturbed: Iterable[Tensor]) -> Tensor:
    """Max-sensitivity (Yeh et al. 2019, definition 3.1): `max ‖Φ(x + δ) - Φ(x)‖ / ‖Φ(x)‖`.

    Args:
        explain: Φ.
        maps: Φ(x) (B, 1, H, W).
        perturbed: Draws of x + δ, each (B, C, H, W).

    Returns:
        (B,), low is good; NaN where a map is zero.
    """
    return largest_change(maps, (explain(x) for x in perturbed))


def largest_change(maps: Tensor, others: Iterable[Tensor]) -> Tensor:
    """`max ‖other - map‖ / ‖map‖` (B,) over others (B, 1, H, W); NaN where a map is zero."""
    size = maps.flatten(1).norm(dim=1)
    changes = [(other - maps).flatten(1).norm(dim=1) for other in others]
    return torch.stack(changes, 1).amax(1) / size.masked_fill(size == 0, torch.nan)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation (B,) of maps (B, H, W), as Adebayo et al. 2018 compare them.

    NaN where a map is constant.
    """
    flat = (maps.reshape(len(maps), -1) for maps in (first, second))
    ranks = [np.stack([average_ranks(row) for row in rows]) for rows in flat]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    sizes = np.prod([np.sqrt((c**2).sum(1)) for c in centred], axis=0)
    product = (centred[0] * centred[1]).sum(1)
    return np.where(sizes > 0, product / np.where(sizes > 0, sizes, 1), np.nan)


@contextlib.contextmanager
def randomized(net: nn.Module, stages: int, seed: int = 42) -> Generator[Generator[str]]:
    """Randomize a network's parameters from the head down, in a cascade (Adebayo et al. 2018).

    A layer is started anew by its own `reset_parameters`. All weights are put back afterwards.

    Args:
        net: The network.
        stages: At how many points of the cascade to stop; the last is the whole network.
        seed: Each layer is drawn from the seed after it.

    Yields:
        A generator that goes a stage further at each step and gives the last layer's name.
    """
    kept = {name: value.detach().clone() for name, value in net.state_dict().items()}
    layers = [(n, m) for n, m in net.named_modules() if hasattr(m, "reset_parameters")][::-1]
    stops = {round(k * len(layers) / stages) - 1 for k in range(1, stages + 1)}

    def cascade() -> Generator[str]:
        for place, (name, layer) in enumerate(layers):
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seed + 1)
                layer.reset_parameters()
            if place in stops:
                yield name

    try:
        yield cascade()
    finally:
        net.load_state_dict(kept)
