"""What an adversary remembers, whole or as the share of one process.

Row `j` of process `r` of `n` is row `j · n + r` of the whole batch, as the engine shares batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def whole_state(shares: Sequence[State]) -> dict[str, Tensor]:
    """Put the states of all processes together.

    Args:
        shares: One for each process. Scalars are the first one's; all else has a row for each
            row of its share of the batch, zero where a process has not had that row yet.
    """
    names = dict.fromkeys(name for share in shares for name in share)
    whole = {}
    for name in names:
        parts = {rank: share[name] for rank, share in enumerate(shares) if name in share}
        first = next(iter(parts.values()))
        if first.ndim == 0:
            whole[name] = first
            continue
        count = max((len(p) - 1) * len(shares) + rank + 1 for rank, p in parts.items())
        whole[name] = torch.zeros(count, *first.shape[1:], dtype=first.dtype, device=first.device)
        for rank, part in parts.items():
            whole[name][rank :: len(shares)][: len(part)] = part
    return whole


def own_state(whole: State, rank: int, processes: int) -> dict[str, Tensor]:
    """The share of one process."""
    return {
        name: value if value.ndim == 0 else value[rank::processes].clone()
        for name, value in whole.items()
    }
