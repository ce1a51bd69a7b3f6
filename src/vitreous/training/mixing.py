"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), by timm's `Mixup`: two images in one.

timm mixes the first image of a batch with the last, the second with the last but one, and so on;
a process reads both images of a pair, so that any number of processes mixes the same.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from timm.data.mixup import Mixup
from torch.nn import functional as F

from vitreous.data.batch import Batch
from vitreous.ranges import SHARE, at_least


@dataclasses.dataclass(frozen=True)
class MixingSettings:
    """How the images of a batch are mixed, and their labels with them; not at all where not given.

    Attributes:
        mixup: α of the β distribution that the share of an image is drawn from; 0 for no mixup.
        cutmix: The same for a rectangle that is cut out of another image; 0 for no CutMix.
        probability: Of a batch to be mixed.
        switch: Probability of CutMix where both are given.
    """

    mixup: Annotated[float, at_least(0)] = 0.0
    cutmix: Annotated[float, at_least(0)] = 0.0
    probability: Annotated[float, SHARE] = 1.0
    switch: Annotated[float, SHARE] = 0.5

    @property
    def active(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def places(self, count: int, process: int, processes: int) -> list[int]:
        """The rows of a batch of `count` that a process reads; mixed, the last is the first's pair.

        Each row is one process's; the first process has as many as any.
        """
        if not self.active:
            return list(range(process, count, processes))
        first = list(range((count + 1) // 2))[process::processes]
        return first + [count - 1 - place for place in reversed(first) if 2 * place != count - 1]

    def mix(self, batch: Batch, classes: int) -> Batch:
        """Mix the rows that `places` gives, by NumPy's global generator.

        Args:
            batch: Labelled rows; one that is its own pair stays as it is.
            classes: Of the labels.

        Returns:
            The batch with mixed images, and `targets` (B, classes).
        """
        mixup = Mixup(
            self.mixup,
            self.cutmix,
            prob=self.probability,
            switch_prob=self.switch,
            label_smoothing=0.0,  # is the objective's
            num_classes=classes,
        )
        images, targets = batch.images.clone(), F.one_hot(batch.labels, classes).float()
        rows = torch.arange(len(batch))
        paired = rows[2 * rows != len(batch) - 1]
        if len(paired):
            images[paired], targets[paired] = mixup(images[paired], batch.labels[paired])
        return dataclasses.replace(batch, images=images, targets=targets)
