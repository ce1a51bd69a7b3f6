"""GroupDRO: cross entropy weighted towards the groups where it is worst."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import VitreousError
from vitreous.ranges import at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective
from vitreous.training.objectives.classification import target_classes

WEIGHTS = "group_dro/weights"


def updated_weights(weights: Tensor, losses: Tensor, step_size: float) -> Tensor:
    """`q_g · exp(η ℓ_g)`, divided by its sum: one step of the exponentiated gradient.

    Args:
        weights: (G,) float, q before; they sum to 1.
        losses: (G,) loss of each group; 0 for a group that the batch does not show.
        step_size: η.
    """
    return (weights.log() + step_size * losses).softmax(0)


def require_one_process(processes: int) -> None:
    """Refuse a batch that is cut among processes."""
    if processes > 1:
        raise VitreousError(
            f"objective group_dro weighs the groups of whole batches; train in one process, not "
            f"{processes}"
        )


@OBJECTIVES.register("group_dro")
@dataclasses.dataclass(frozen=True)
class GroupDRO(WeightedObjective):
    """`Σ_g q_g ℓ_g`, instead of classification (Sagawa et al. 2020, algorithm 1).

    ℓ_g is the mean cross entropy of the rows of group g (0 where the batch shows none of it, as in
    the published code), plus `adjustment / √n_g` with the n_g images of the group in the training
    set. Before each step `q_g ← q_g exp(step_size · ℓ_g)`, and q is divided by
    its sum; it starts equal and is kept in the checkpoints. Needs the group of every training
    image, and takes whole batches: one process, `training.accumulation` 1.

    Where there is nothing to learn (in validation) it is the plain cross entropy.

    Attributes:
        weight: Factor in the sum.
        step_size: η of the weights' step, 0.01 in the paper's experiments.
        adjustment: C of the generalization adjustment; 0 to 5 in the paper.
    """

    step_size: Annotated[float, at_least(0)] = 0.01
    adjustment: Annotated[float, at_least(0)] = 0.0
    needs: ClassVar[frozenset[str]] = frozenset({"groups"})

    def __call__(self, step: Step) -> LossTerm:
        """Return the weighted loss, and log the worst group's loss and weight."""
        labels = target_classes(step, "label")
        rows = F.cross_entropy(step.logits.float(), labels, reduction="none")
        if step.group_sizes is None or step.batch.groups is None:
            return LossTerm(rows.mean())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            require_one_process(torch.distributed.get_world_size())
        sizes = step.group_sizes.to(rows)
        losses = self.group_losses(rows, step.batch.groups, sizes)
        weights = step.memory.get(WEIGHTS, torch.full_like(sizes, 1 / len(sizes)))
        weights = updated_weights(weights.to(losses), losses.detach(), self.step_size)
        step.memory[WEIGHTS] = weights
        log = {"worst_loss": losses.detach().max(), "largest_weight": weights.max()}
        return LossTerm((weights * losses).sum(), log)

    def group_losses(self, rows: Tensor, groups: Tensor, sizes: Tensor) -> Tensor:
        """(G,) mean loss of each group, adjusted; a mean of 0 where the batch shows none of it.

        Args:
            rows: (B,) loss of each row.
            groups: (B,) int64 group of each row.
            sizes: (G,) images of each group in the training set.
        """
        members = F.one_hot(groups, len(sizes)).to(rows)
        counts = members.sum(0)
        means = (members * rows[:, None]).sum(0) / counts.clamp(min=1)
        return means + self.adjustment / sizes.clamp(min=1).sqrt()
