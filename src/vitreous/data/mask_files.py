"""Mask files to float tensors: 1 = foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vitreous.errors import ImageError

MaskFormat = Literal["binary", "imagenet_s"]
IGNORE = 1000


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
    return decode_mask(Path(path), str(path), kind)


def decode_mask(source: Path | BinaryIO, name: str, kind: MaskFormat = "binary") -> Tensor:
    """Read a mask as `read_mask` does, from a file or an open stream.

    Args:
        source: The file, or a seekable binary stream.
        name: What messages call it.
        kind: As in `read_mask`.

    Raises:
        ImageError: If it is missing or cannot be read.
    """
    array = _read(source, name)
    if kind == "imagenet_s":
        if array.ndim != 3:
            raise ImageError(f"{name}: expected an RGB mask of ImageNet-S, found one channel")
        classes = array[..., 0].astype(np.int64) + 256 * array[..., 1].astype(np.int64)
        foreground = (classes > 0) & (classes != IGNORE)
    else:
        foreground = array > 0 if array.dtype == bool else _above_half(array)
    return torch.from_numpy(foreground.astype(np.float32))[None]


def _read(source: Path | BinaryIO, name: str) -> np.ndarray:
    try:
        with Image.open(source) as image:
            image.load()
            if image.mode == "P":
                return np.asarray(image) > 0
            return np.asarray(image)
    except FileNotFoundError as error:
        raise ImageError(f"no mask at {name}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is not a mask that can be read: {error}") from error


def _above_half(array: np.ndarray) -> np.ndarray:
    values = array if array.ndim == 2 else array[..., :3].max(-1)
    if values.max(initial=0) <= 1:
        return values > 0
    return values > (np.iinfo(values.dtype).max if values.dtype.kind == "u" else 255) / 2
