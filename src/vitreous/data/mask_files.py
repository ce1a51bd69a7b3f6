"""Mask files to float tensors: 1 = foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.images import image_errors
from vitreous.errors import ImageError, printable

MaskFormat = Literal["binary", "imagenet_s"]
IGNORE = 1000
MANY = 32


def read_mask(path: str | os.PathLike[str], kind: MaskFormat = "binary") -> Tensor:
    """Read a mask (1, H, W) of zeros and ones.

    Args:
        path: An image file.
        kind: `binary`: foreground where any channel exceeds half its range (palette files: where
            the index is not 0); `imagenet_s`: ImageNet-S's class = R + 256·G, foreground where it
            is a class, background where it is 0 or 1000 (ignore).

    Raises:
        ImageError: If the file is missing or cannot be read.
    """
    return decode_mask(Path(path), printable(path), kind)


def decode_mask(source: Path | BinaryIO, name: str, kind: MaskFormat = "binary") -> Tensor:
    """Read a mask as `read_mask` does, from a file or an open stream.

    Args:
        source: The file, or a seekable binary stream.
        name: What messages call it.
        kind: As in `read_mask`.

    Raises:
        ImageError: If it is missing or cannot be read.
    """
    array = _read(source, name, kind)
    if kind == "imagenet_s":
        if array.ndim != 3:
            raise ImageError(f"{name}: expected an RGB mask of ImageNet-S, found one channel")
        classes = array[..., 0].astype(np.int64) + 256 * array[..., 1].astype(np.int64)
        foreground = (classes > 0) & (classes != IGNORE)
    else:
        foreground = array > 0 if array.dtype == bool else _above_half(array)
    return torch.from_numpy(foreground.astype(np.float32))[None]


def _read(source: Path | BinaryIO, name: str, kind: MaskFormat) -> np.ndarray:
    if isinstance(source, Path) and not source.is_file():
        raise ImageError(f"no mask at {name}")
    with image_errors(name, ImageError), Image.open(source) as image:
        image.load()
        if kind == "binary" and _is_photo(image):
            raise ImageError(f"{name} looks like a photograph, expected a mask of black and white")
        if image.mode == "P":
            return np.asarray(image) > 0
        array = np.asarray(image)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("it holds numbers that are not finite")
        return array


def _is_photo(image: Image.Image) -> bool:
    """Whether an image is a photograph, which by its brightness would pass as a mask.

    Of a mask, nearly all pixels are dark or bright, or of a few values; of a photograph a quarter
    and more lie between, with many values. A palette image is one if neighbours mostly differ.
    """
    if image.mode == "P":
        indices = np.asarray(image)
        mixed = indices.size > 1 and (indices[:, 1:] == indices[:, :-1]).mean() < 0.5
        return bool(mixed) and len(np.unique(indices)) > MANY
    values = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    values = values if values.ndim == 2 else values.max(-1)
    between = values[(values > 25) & (values < 230)]
    return between.size > 0.25 * values.size and len(np.unique(between)) > MANY


def _above_half(array: np.ndarray) -> np.ndarray:
    values = array if array.ndim == 2 else array[..., :3].max(-1)
    if values.max(initial=0) <= 1:
        return values > 0
    return values > (np.iinfo(values.dtype).max if values.dtype.kind == "u" else 255) / 2
