"""Masks used the other way round: the object on the background of another image."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.ranges import SHARE, at_least
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Step, WeightedObjective
from vitreous.training.objectives.classification import Target, target_classes


def feather(masks: Tensor, sigma: float) -> Tensor:
    """Blur the edges of masks (B, 1, H, W) with a Gaussian of `sigma` pixels; 0 leaves them."""
    if sigma <= 0:
        return masks
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=masks.device, dtype=masks.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(masks, (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, kernel.view(1, 1, 1, -1))
    return F.conv2d(across, kernel.view(1, 1, -1, 1)).clamp(0, 1)


def fill_holes(images: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known of images from the nearest that is: pull, then push.

    Averages of the known pixels over ever larger squares fill the unknown ones, coarse to fine
    (the pull-push algorithm of Gortler et al. 1996, with box filters).

    Args:
        images: (B, C, H, W).
        known: (B, 1, H, W), 1 = known, 0 = to be filled; values between are blended.

    Returns:
        (B, C, H, W); zeros where nothing of an image is known.
    """
    if max(images.shape[-2:]) == 1:
        return images * (known > 0)
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(images * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    coarse = fill_holes(coarse, (weight > 0).to(images.dtype))
    around = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return images * known + around * (1 - known)


def choose_donors(has_mask: Tensor, background: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Choose for each masked row, at random, another one whose background it gets.

    Args:
        has_mask: (B,) bool.
        background: (B,) share of each image that is background.
        least: Images with less of it give none, and get none: there is nothing to swap.

    Returns:
        Rows (R,) and their donors (R,), never the row itself; empty if fewer than two fit.
    """
    rows = (has_mask & (background >= least)).nonzero()[:, 0]
    if len(rows) < 2:
        return rows[:0], rows[:0]
    step = torch.randint(1, len(rows), (len(rows),)).to(rows.device)
    return rows, rows[(torch.arange(len(rows), device=rows.device) + step) % len(rows)]


def swap_backgrounds(
    images: Tensor, masks: Tensor, rows: Tensor, donors: Tensor, sigma: float
) -> Tensor:
    """Put the objects of some rows on the backgrounds of others, whose objects are painted over.

    Args:
        images: (B, 3, H, W).
        masks: (B, 1, H, W), 1 = foreground.
        rows: (R,) whose objects are kept.
        donors: (R,) whose backgrounds are taken.
        sigma: Width of the feathered edge in pixels.

    Returns:
        (R, 3, H, W): the object's own pixels inside the mask, up to the feathered edge.
    """
    background = fill_holes(images[donors], 1 - masks[donors])
    opacity = feather(masks[rows], sigma)
    return images[rows] * opacity + background * (1 - opacity)


@OBJECTIVES.register("background_swap")
@dataclasses.dataclass(frozen=True)
class BackgroundSwap(WeightedObjective):
    """`CE(f(s), y) + consistency · KL(f(x) ‖ f(s))`, s = the object of x on another background.

    Over the rows that have masks, from the clean images; the background is that of another
    masked image of the batch, with its own object painted over. It costs one forward pass of
    those rows, and one more of the clean images where there is an adversary and `consistency`
    is not 0. The prediction f(x) is a constant here.

    Attributes:
        weight: Factor in the sum.
        consistency: Factor of the term that asks for the prediction of the image itself.
        feather: Width of the feathered edge (standard deviation of the blur) as a share of the
            image's height.
        least_background: Share of an image that must be background for it to take part.
        target: Class of the swapped image.
    """

    consistency: Annotated[float, at_least(0)] = 0.0
    feather: Annotated[float, at_least(0)] = 0.02
    least_background: Annotated[float, SHARE] = 0.1
    target: Target = "label"
    needs: ClassVar[frozenset[str]] = frozenset({"masks"})

    def __call__(self, step: Step) -> LossTerm:
        """Return the mean over the rows that were swapped; 0 if there are none."""
        batch, images = step.batch, step.clean.detach()
        share = 1 - batch.masks.mean((1, 2, 3))
        rows, donors = choose_donors(batch.has_mask, share, self.least_background)
        if len(rows) == 0:
            return LossTerm(step.zero(), reduction="masked_mean")
        sigma = self.feather * images.shape[-2]
        swapped = swap_backgrounds(images, batch.masks, rows, donors, sigma)
        logits = step.logits_of(swapped).float()
        classes = target_classes(step, self.target)[rows]
        loss = F.cross_entropy(logits, classes)
        log = {"accuracy_swapped": (logits.detach().argmax(1) == classes).float().mean()}
        if self.consistency:
            expected = step.on_clean.logits[rows].detach().float().log_softmax(1)
            divergence = F.kl_div(
                logits.log_softmax(1), expected, log_target=True, reduction="batchmean"
            )
            log["divergence"] = divergence.detach()
            loss = loss + self.consistency * divergence
        return LossTerm(loss, log, "masked_mean")
