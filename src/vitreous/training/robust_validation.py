"""Honest selection: accuracy under PGD on a fixed held-out batch, each epoch.

Training on single-step attacks can fail at once and without a sign: the model learns to resist
the attack it is trained on and nothing else ("catastrophic overfitting", Wong et al. 2020), while
its clean accuracy even rises. An attack of several steps sees it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor

from vitreous.attacks.norms import Norm
from vitreous.attacks.pgd import PGD
from vitreous.data.batch import Batch
from vitreous.data.loading import TransformedDataset, collate
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode
from vitreous.ranges import SEED, above, at_least
from vitreous.training.adversaries.base import Adversary
from vitreous.training.progress import Progress
from vitreous.training.validation import Validated

LEAST_DROP = 0.1
WORST_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class RobustValidationSettings:
    """PGD on held-out images, of recipes with an adversary.

    Attributes:
        images: How many validation images, spread evenly over the set; 0 switches it off.
        epsilon: Radius of the L∞ ball; the adversary's own where not given.
        steps: Steps of PGD.
        step_size: Length of one; 2.5 ε / steps where not given.
        seed: Of its random starts, the same each epoch.
    """

    images: Annotated[int, at_least(0)] = 128
    epsilon: Annotated[float, at_least(0)] | None = None
    steps: Annotated[int, at_least(1)] = 10
    step_size: Annotated[float, above(0)] | None = None
    seed: Annotated[int, SEED] = 0

    def chosen(self, count: int) -> list[int]:
        """Indices of the attacked images in a set of `count`."""
        size = min(self.images, count)
        if size == 0:
            return []
        return [i * count // size for i in range(size)]


@dataclasses.dataclass(frozen=True)
class RobustValidation:
    """Measure a classifier on one batch.

    Attributes:
        settings: Of the attack.
        batch: The held-out images.
        epsilon: Radius where the settings leave it open.
        norm: Of the ball.
        size: Images attacked at once.
    """

    settings: RobustValidationSettings
    batch: Batch
    epsilon: float = 2 / 255
    norm: Norm = "linf"
    size: int = 32

    def __call__(self, classifier: Classifier) -> Validated:
        """Figures of a classifier, which is left as it was.

        Returns:
            `robust_accuracy` under PGD and `clean_accuracy` on the same images unperturbed.
        """
        settings = self.settings
        radius = self.epsilon if settings.epsilon is None else settings.epsilon
        attack = PGD(
            epsilon=radius,
            norm=self.norm,
            steps=settings.steps,
            step_size=settings.step_size,
        )
        generator = torch.Generator().manual_seed(settings.seed)
        clean = robust = 0
        for start in range(0, len(self.batch), self.size):
            part = self.batch.rows(start, start + self.size).to(classifier.device)
            right = _right(classifier, part.images, part.labels)
            with evaluation_mode(classifier):
                perturbed = attack(classifier, part.images, part.labels, generator=generator)
            clean += int(right.sum())
            robust += int((right & _right(classifier, perturbed, part.labels)).sum())
        right = {"robust_accuracy": robust, "clean_accuracy": clean}
        return Validated.of_shares(right, len(self.batch))


def make_robust_validation(
    settings: RobustValidationSettings, adversary: Adversary | None, data: TransformedDataset
) -> RobustValidation | None:
    """Read the images to attack; None without an adversary or without images.

    Args:
        settings: How many, and how strong the attack is.
        adversary: The recipe's; its radius and norm are the defaults.
        data: The validation images.
    """
    chosen = settings.chosen(len(data))
    if adversary is None or not chosen:
        return None
    batch = collate([data[(0, index)] for index in chosen])
    return RobustValidation(settings, batch, adversary.epsilon, adversary.norm)


@torch.no_grad()
def _right(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """Which images (B,) are classified right, in evaluation mode."""
    with evaluation_mode(classifier):
        return classifier(images).argmax(1) == labels


def note_robustness(progress: Progress, figures: Mapping[str, float]) -> str | None:
    """Add an epoch's figures to the run's; returns the warning that follows, or None."""
    progress.robust.append(figures["robust_accuracy"])
    progress.clean_accuracies.append(figures["clean_accuracy"])
    message = sudden_drop(progress.robust, progress.clean_accuracies)
    if message is None:
        return None
    progress.warnings.append(f"epoch {progress.epoch}: {message}")
    return progress.warnings[-1]


def sudden_drop(robust: Sequence[float], clean: Sequence[float] = ()) -> str | None:
    """Report catastrophic overfitting in the epoch that was just measured.

    Args:
        robust: Robust accuracy of each epoch so far, in [0, 1].
        clean: Accuracy of the same images unperturbed, for the message.

    Returns:
        What happened and what to do, once, in the epoch of the drop; otherwise None.
    """
    if not _dropped(robust) or _dropped(robust[:-1]):
        return None
    seen = f" (clean accuracy is {clean[-1]:.1%}, which does not show it)" if clean else ""
    return (
        f"catastrophic overfitting: accuracy under PGD fell from {max(robust):.1%} to "
        f"{robust[-1]:.1%}{seen}; the model resists its training attack only. Use a smaller "
        "adversary.step_size or epsilon, adversary n_fgsm, the objective gradalign, or adversary "
        "pgd with 2 steps; the best epoch by robust accuracy is kept"
    )


def _dropped(robust: Sequence[float]) -> bool:
    if len(robust) < 2:
        return False
    best = max(robust[:-1])
    return best - robust[-1] >= LEAST_DROP and robust[-1] <= WORST_SHARE * best
