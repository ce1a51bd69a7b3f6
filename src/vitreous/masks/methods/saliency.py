"""Saliency networks: ONNX models with U²-Net's interface, and rembg's models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated

import numpy as np
from PIL import Image

from vitreous.errors import VitreousError, require
from vitreous.fingerprint import named_content
from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, image_items
from vitreous.masks.edges import enlarge
from vitreous.masks.images import (
    MEAN,
    STD,
    Session,
    find_in_images,
    load_session,
    not_finite,
    run_session,
    squash,
)
from vitreous.ranges import SHARE


@MASK_METHODS.register("onnx")
@dataclasses.dataclass(frozen=True)
class Onnx:
    """An ONNX model from images (B, 3, S, S) to foreground maps, its first output (Qin 2020).

    Images are scaled by their brightest value and normalised by ImageNet's mean and standard
    deviation, maps by their own minimum and maximum, as U²-Net's code does.

    Attributes:
        model: The file, for example `u2net.onnx` or `u2netp.onnx`.
        threshold: Foreground is above it, in [0, 1].
        device: `auto`, `cpu`, or `cuda` where onnxruntime-gpu is installed.
    """

    model: Path
    threshold: Annotated[float, SHARE] = 0.5
    device: str = "auto"

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        return image_items(images, "onnx")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Run the model on a batch."""
        return find_in_images(items, self._make)

    def weights(self) -> str:
        """Name and content of the file."""
        return named_content(self.model) if self.model.is_file() else ""

    def _make(self, images: list[Image.Image]) -> list[Found | MaskError]:
        return [
            Found(enlarge(one, (image.height, image.width)) > self.threshold)
            if np.isfinite(one).all()
            else not_finite(self.model)
            for image, one in zip(images, self.maps(images))
        ]

    def maps(self, inputs: Sequence[Image.Image]) -> np.ndarray:
        """Foreground maps (B, S, S) in [0, 1], each scaled by its own minimum and maximum."""
        entry = self._session.get_inputs()[0]
        sides = [side if isinstance(side, int) else 320 for side in entry.shape[2:]]
        images = squash(inputs, (sides[0], sides[1])).numpy()
        images = images / np.maximum(images.max((1, 2, 3), keepdims=True), 1e-6)
        images = ((images - MEAN) / STD).astype(np.float32)
        many = len(images) if not isinstance(entry.shape[0], int) else entry.shape[0]
        parts = [self._run({entry.name: images[i : i + many]}) for i in range(0, len(images), many)]
        maps = np.concatenate(parts)
        if len(maps) != len(images):
            raise VitreousError(f"{self.model} gives {len(maps)} maps for {len(images)} pictures")
        low, high = (f(maps, (1, 2), keepdims=True) for f in (np.min, np.max))
        return (maps - low) / np.maximum(high - low, 1e-6)

    def _run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Maps (B, S, S): the first channel of the first output."""
        found = next(iter(run_session(self._session, self.model, inputs).values()))
        if found.ndim not in (3, 4) or min(found.shape) < 1 or min(found.shape[-2:]) < 2:
            raise VitreousError(
                f"{self.model} gives {found.shape}, expected maps (B, 1, S, S): it is no saliency "
                "network"
            )
        return found if found.ndim == 3 else found[:, 0]

    @functools.cached_property
    def _session(self) -> Session:
        session = load_session(self.model, self.device)
        entry = session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.shape[1] != 3:
            raise VitreousError(f"{self.model} takes {entry.shape}, expected pictures [B, 3, S, S]")
        return session


@MASK_METHODS.register("rembg")
@dataclasses.dataclass(frozen=True)
class Rembg:
    """A model of rembg's zoo (pip install rembg); rembg fetches its weights at the first use.

    Attributes:
        model: Its name there, for example `u2net`, `isnet-general-use` or `birefnet-general`.
        threshold: Foreground is above it, in [0, 1].
    """

    model: str = "u2net"
    threshold: Annotated[float, SHARE] = 0.5

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        return image_items(images, "rembg")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Run the model on a batch."""
        return find_in_images(items, self._make)

    def _make(self, images: list[Image.Image]) -> list[Found]:
        maps = [self._rembg.remove(p, session=self._session, only_mask=True) for p in images]
        return [Found(np.asarray(one.convert("L")) > 255 * self.threshold) for one in maps]

    @functools.cached_property
    def _rembg(self) -> ModuleType:
        try:
            return require("rembg", "masks")
        except VitreousError as error:
            raise VitreousError("rembg is not installed: pip install rembg") from error

    @functools.cached_property
    def _session(self) -> object:
        try:
            return self._rembg.new_session(self.model)
        except Exception as error:  # unknown names and failed downloads, of many classes
            raise VitreousError(f"rembg cannot load '{self.model}': {error}") from error
