"""Saliency networks: ONNX models with U²-Net's interface, and rembg's models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitreous.errors import VitreousError, require
from vitreous.masks.base import MASK_METHODS, Found, Item, MaskError, image_items
from vitreous.masks.edges import enlarge
from vitreous.masks.images import find_in_images, squash

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@MASK_METHODS.register("onnx")
@dataclasses.dataclass(frozen=True)
class Onnx:
    """Any ONNX model from pictures (B, 3, S, S) to foreground maps, its first output (Qin 2020).

    Pictures are scaled by their brightest value and normalised by ImageNet's mean and standard
    deviation, maps by their own minimum and maximum, as U²-Net's code does.

    Attributes:
        model: The file, for example `u2net.onnx` or `u2netp.onnx`.
        threshold: Foreground is above it, in [0, 1].
        device: `cpu`, or `cuda` where onnxruntime-gpu is installed.
    """

    model: Path
    threshold: float = 0.5
    device: str = "cpu"

    def items(self, images: Path | None) -> list[Item]:
        """One for each picture."""
        return image_items(images, "onnx")

    def find(self, items: Sequence[Item]) -> list[Found | MaskError]:
        """Run the model on a batch."""
        return find_in_images(items, self._make)

    def _make(self, images: list[Image.Image]) -> list[Found]:
        return [
            Found(enlarge(one, (image.height, image.width)) > self.threshold)
            for image, one in zip(images, self.maps(images))
        ]

    def maps(self, inputs: Sequence[Image.Image]) -> np.ndarray:
        """Foreground maps (B, S, S) in [0, 1], each scaled by its own minimum and maximum."""
        entry = self._session.get_inputs()[0]
        sides = [side if isinstance(side, int) else 320 for side in entry.shape[2:]]
        images = squash(inputs, (sides[0], sides[1])).numpy()
        images = images / np.maximum(images.max((1, 2, 3), keepdims=True), 1e-6)
        mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (MEAN, STD))
        images = ((images - mean) / std).astype(np.float32)
        many = len(images) if not isinstance(entry.shape[0], int) else entry.shape[0]
        found = [
            self._session.run(None, {entry.name: images[i : i + many]})[0]
            for i in range(0, len(images), many)
        ]
        maps = np.concatenate(found).reshape(len(images), -1, *found[0].shape[-2:])[:, 0]
        low, high = (f(maps, (1, 2), keepdims=True) for f in (np.min, np.max))
        return (maps - low) / np.maximum(high - low, 1e-6)

    @functools.cached_property
    def _session(self) -> Any:
        runtime: Any = require("onnxruntime", "masks")
        if not self.model.is_file():
            raise VitreousError(f"no ONNX model at {self.model}")
        wanted = "CUDAExecutionProvider" if self.device != "cpu" else "CPUExecutionProvider"
        if wanted not in runtime.get_available_providers():
            raise VitreousError(f"this onnxruntime has no {wanted}; install onnxruntime-gpu")
        try:
            session = runtime.InferenceSession(str(self.model), providers=[wanted])
        except Exception as error:  # onnxruntime's errors have no common public class
            text = " ".join(str(error).split())
            raise VitreousError(f"{self.model} is not an ONNX model that runs: {text}") from error
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
    threshold: float = 0.5

    def items(self, images: Path | None) -> list[Item]:
        """One for each picture."""
        return image_items(images, "rembg")

    def find(self, items: Sequence[Item]) -> list[Found | MaskError]:
        """Run the model on a batch."""
        return find_in_images(items, self._make)

    def _make(self, images: list[Image.Image]) -> list[Found]:
        maps = [self._rembg.remove(p, session=self._session, only_mask=True) for p in images]
        return [Found(np.asarray(one.convert("L")) > 255 * self.threshold) for one in maps]

    @functools.cached_property
    def _rembg(self) -> Any:
        try:
            return require("rembg", "masks")
        except VitreousError as error:
            raise VitreousError("rembg is not installed: pip install rembg") from error

    @functools.cached_property
    def _session(self) -> Any:
        try:
            return self._rembg.new_session(self.model)
        except Exception as error:  # unknown names and failed downloads, of many classes
            raise VitreousError(f"rembg cannot load '{self.model}': {error}") from error
