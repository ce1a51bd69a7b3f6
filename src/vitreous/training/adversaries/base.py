"""What an adversary of the training step is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from vitreous.attacks.norms import Norm
from vitreous.registry import Registry


class Adversary(Protocol):
    """Frozen settings and a call that perturbs the images of one training step.

    Whatever it must remember from step to step (a carried-over perturbation, a loss scale) lies
    in `state`, a mapping of tensors that the engine stores in every checkpoint: scalars, and
    tensors with a row for each row of the batch, which are shared among processes as its images
    are.

    Attributes:
        epsilon: Radius of its ball, in units of the images ([0, 1]); held-out images are attacked
            with it after each epoch.
        norm: Of that ball.
        carries_over: Whether a row's perturbation goes on to the same row of the next batch, so
            that batches must stay whole.
    """

    @property
    def epsilon(self) -> float: ...  # noqa: D102

    @property
    def norm(self) -> Norm: ...  # noqa: D102

    @property
    def carries_over(self) -> bool: ...  # noqa: D102

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        state: dict[str, Tensor],
        progress: float,
    ) -> Tensor:
        """Perturb images.

        Args:
            model: The unwrapped classifier, in training mode; takes images in [0, 1]. The call
                is made inside the engine's autocast context.
            images: (B, 3, H, W) in [0, 1].
            labels: (B,) int64.
            state: What it remembers; changed in place.
            progress: Share of the training that is done, in [0, 1].

        Returns:
            Detached images in [0, 1] of the same shape. No gradient reaches the weights, and
            no weight's `.grad` is touched.
        """
        ...


ADVERSARIES: Registry[type[Adversary]] = Registry("adversary", "vitreous.training.adversaries")
