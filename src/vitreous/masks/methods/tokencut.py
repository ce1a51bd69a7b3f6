"""TokenCut as a mask source."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from PIL import Image

from vitreous.errors import VitreousError, nearest
from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, image_items
from vitreous.masks.edges import EDGES, refine
from vitreous.masks.eigenvectors import SOLVERS
from vitreous.masks.images import find_in_images, load_classifier, not_finite, pixels, squash
from vitreous.masks.tokencut import FEATURES, Features, best_features, partitions, patch_features
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.precision import AnyPrecision, autocast, resolve_precision
from vitreous.ranges import PIXELS, at_least


@MASK_METHODS.register("tokencut")
@dataclasses.dataclass(frozen=True)
class TokenCut:
    """TokenCut (Wang et al. 2022): no labels, only a self-supervised Vision Transformer.

    Attributes:
        model: A timm name or a folder; the paper's is DINO's ViT-B/16.
        checkpoint: A file of weights for it.
        image_size: Height and width to which images are resized, a multiple of the patch; the
            model's own where not given.
        features: What describes a patch: `key` of the last layer (the paper), `query`, `value` or
            `token`; where not given, `token` for DINOv2 (whose keys do not serve) and else `key`.
        tau: Cosine similarity above which two patches are joined.
        edges: Refinement of the edges: `bilateral`, `guided` or `none`.
        solver: What finds the eigenvectors: `arpack` (scipy, on the CPU), `lanczos` (torch, on the
            device) or `dense`; where not given, `arpack` on the CPU and else `lanczos`.
        device: `cpu`, `cuda`, ….
        precision: Type of the forward pass; `auto` is bfloat16 where the device is fast at it.
    """

    model: str = "vit_base_patch16_224.dino"
    checkpoint: str | None = None
    image_size: Annotated[int, PIXELS] | None = None
    features: Features | None = None
    tau: Annotated[float, at_least(-1, at_most=1)] = 0.2
    edges: str = "bilateral"
    solver: str | None = None
    device: str = "auto"
    precision: AnyPrecision = "float32"

    def __post_init__(self) -> None:
        if self.edges not in EDGES:
            raise VitreousError(f"unknown edges '{self.edges}'; {nearest(self.edges, EDGES)}")
        if self.features not in (None, *FEATURES):
            raise VitreousError(f"unknown features; {nearest(str(self.features), FEATURES)}")
        if self.solver is not None and self.solver not in SOLVERS:
            raise VitreousError(f"unknown solver '{self.solver}'; {nearest(self.solver, SOLVERS)}")

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        return image_items(images, "tokencut")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Cut a batch."""
        return find_in_images(items, self._make)

    def _make(self, inputs: list[Image.Image]) -> list[Found | MaskError]:
        images = squash(inputs, self.classifier.preprocessing.size)
        kind, device = self.features or best_features(self.classifier), self.classifier.device
        with autocast(device, resolve_precision(self.precision, device)):
            features = patch_features(self.classifier, images, kind)
        finite = features.flatten(1).isfinite().all(1).tolist()
        cuts = iter(
            partitions(features[finite], tau=self.tau, solver=self.solver) if any(finite) else []
        )
        return [
            Found(*refine(self.edges, pixels(image), next(cuts).foreground))
            if good
            else not_finite(self.model)
            for image, good in zip(inputs, finite)
        ]

    def weights(self) -> str:
        """Fingerprint of the model."""
        return model_fingerprint(self.classifier)

    @functools.cached_property
    def classifier(self) -> Classifier:
        """The model, loaded with the first batch."""
        return load_classifier(self.model, self.checkpoint, self.image_size, self.device)
