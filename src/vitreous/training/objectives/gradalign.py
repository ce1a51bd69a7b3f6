"""GradAlign: keep the input gradient alike within the ball, against catastrophic overfitting."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.attacks.norms import random_start
from vitreous.models.forward import record_forward
from vitreous.ranges import at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective


@OBJECTIVES.register("gradalign")
@dataclasses.dataclass(frozen=True)
class GradAlign(WeightedObjective):
    """`1 - cos(∇x l(x, y), ∇x l(x + η, y))`, η ~ U(±ε) (Andriushchenko and Flammarion 2020, eq. 5).

    Single-step attacks are right where the loss is linear; this makes it so. It costs two forward
    passes and a second-order backward pass.

    Attributes:
        weight: Factor in the sum (λ; 0.2 in the paper at ε 8/255).
        epsilon: Radius of the noise.
    """

    weight: Annotated[float, at_least(0)] = 0.2
    epsilon: Annotated[float, at_least(0)] = 2 / 255
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, step: Step) -> LossTerm:
        """Return the mean misalignment, in [0, 2], at the clean images."""
        images, labels = step.clean.detach(), step.batch.labels
        noisy = images + random_start(images, self.epsilon, "linf")
        with torch.enable_grad():
            here = _gradient(step, images, labels)
            there = _gradient(step, noisy, labels)
        cosine = F.cosine_similarity(here.flatten(1), there.flatten(1), dim=1)
        return LossTerm((1 - cosine).mean(), {"cosine": cosine.detach().mean()})


def _gradient(step: Step, images: Tensor, labels: Tensor) -> Tensor:
    # A compiled pass cannot be derived twice.
    model = step.model if step.passes is None else step.classifier
    made = record_forward(model, images, input_gradient=True, classifier=step.classifier)
    loss = F.cross_entropy(made.logits.float(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, made.images, create_graph=step.model.training)
    return gradient.float()
