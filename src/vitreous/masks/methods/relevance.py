"""Masks from the model itself: where several relevance methods agree. A baseline, not a truth."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image
from torch import Tensor

from vitreous.attribution import relevance
from vitreous.errors import VitreousError, nearest
from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, image_items
from vitreous.masks.edges import EDGES, refine
from vitreous.masks.images import find_in_images, load_classifier, not_finite, pixels, squash
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.precision import AnyPrecision, autocast, resolve_precision
from vitreous.ranges import PIXELS, at_least


@MASK_METHODS.register("relevance")
@dataclasses.dataclass(frozen=True)
class Relevance:
    """Foreground = where enough relevance methods exceed their own mean.

    Attributes:
        model: A timm name or a folder, with a head: relevance explains the predicted class.
        checkpoint: A file of weights for it.
        image_size: Height and width to which images are resized; the model's own if not given.
        methods: Relevance methods that vote.
        votes: How many must agree; more than half of them where not given.
        edges: Refinement of the edges; `none` leaves them as they are.
        device: `cpu`, `cuda`, ….
        precision: Type of the forward pass; `auto` is bfloat16 where the device is fast at it.
    """

    model: str = "vit_base_patch16_224.augreg_in21k_ft_in1k"
    checkpoint: str | None = None
    image_size: Annotated[int, PIXELS] | None = None
    methods: tuple[str, ...] = ("gradient_attention", "rollout", "grad_cam")
    votes: Annotated[int, at_least(1)] | None = None
    edges: str = "none"
    device: str = "auto"
    precision: AnyPrecision = "float32"

    def __post_init__(self) -> None:
        if self.edges not in EDGES:
            raise VitreousError(f"unknown edges '{self.edges}'; {nearest(self.edges, EDGES)}")
        if not self.methods or not 0 < (self.votes or 1) <= len(self.methods):
            raise VitreousError(f"expected 1 to {len(self.methods)} votes, found {self.votes}")

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        return image_items(images, "relevance")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Explain a batch."""
        return find_in_images(items, self._make)

    def _make(self, inputs: list[Image.Image]) -> list[Found | MaskError]:
        images = squash(inputs, self.classifier.preprocessing.size).to(self.classifier.device)
        precision = resolve_precision(self.precision, images.device)
        with autocast(images.device, precision):
            maps = torch.stack([relevance(self.classifier, images, None, m) for m in self.methods])
            with torch.inference_mode():
                finite = self.classifier(images).isfinite().all(1).cpu()
        masks = consensus(maps, self.votes)[:, 0].cpu().numpy()
        finite = (finite & maps.isfinite().all(0).flatten(1).all(1).cpu()).tolist()
        return [
            Found(*refine(self.edges, pixels(image), mask)) if good else not_finite(self.model)
            for image, mask, good in zip(inputs, masks, finite)
        ]

    def weights(self) -> str:
        """Fingerprint of the model."""
        return model_fingerprint(self.classifier)

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The model, loaded with the first batch."""
        return load_classifier(self.model, self.checkpoint, self.image_size, self.device)


def consensus(maps: Tensor, votes: int | None = None) -> Tensor:
    """Vote: foreground is where enough maps exceed their own mean.

    Args:
        maps: (methods, B, 1, H, W).
        votes: How many must agree; more than half where not given.

    Returns:
        (B, 1, H, W) bool.
    """
    above = maps > maps.mean((-2, -1), keepdim=True)
    needed = votes if votes is not None else len(maps) // 2 + 1
    return above.sum(0).ge(needed)
