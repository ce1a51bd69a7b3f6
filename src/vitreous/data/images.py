"""Image files to float tensors in [0, 1], and back: one place that knows about bad files."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from vitreous.data.decoding import draft, mark
from vitreous.data.listing import EXTENSIONS, list_files
from vitreous.errors import ImageError, VitreousError, printable
from vitreous.io import atomic_path
from vitreous.models import Preprocessing

INTERPOLATIONS = {
    "bicubic": v2.InterpolationMode.BICUBIC,
    "bilinear": v2.InterpolationMode.BILINEAR,
    "nearest": v2.InterpolationMode.NEAREST,
    "lanczos": v2.InterpolationMode.LANCZOS,
}


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image as RGB, upright.

    The EXIF rotation is applied; grey, palette, CMYK and 16-bit images are converted (16 bits
    are scaled to 8, not cut off); transparency is laid on white.

    Raises:
        ImageError: If the file is missing, empty, cut short, or not an image; names the file.
    """
    file, name = Path(path), printable(path)
    try:
        if file.is_dir():
            raise ImageError(f"{name} is a folder, expected a picture")
        if file.stat().st_size == 0:
            raise ImageError(f"{name} is empty (0 bytes)")
    except FileNotFoundError as error:
        raise ImageError(f"no picture at {name}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{name} cannot be read: {reason}") from error
    return decode_image(file, name)


def decode_image(source: Path | BinaryIO, name: str) -> Image.Image:
    """Read an image as `open_image` does, from a file or an open stream.

    Args:
        source: The file, or a seekable binary stream.
        name: What messages call it.

    Raises:
        ImageError: If it is cut short or not an image.
    """
    with image_errors(name, ImageError), warnings.catch_warnings(), Image.open(source) as opened:
        warnings.simplefilter("ignore")
        whole = draft(opened)
        opened.load()
        image = ImageOps.exif_transpose(opened)
        return mark(to_rgb(image), whole)


@contextlib.contextmanager
def image_errors(name: object, kind: type[VitreousError]) -> Generator[None]:
    """Turn what PIL raises for a bad image into one line that names it.

    Args:
        name: What messages call the image.
        kind: The error that is raised.
    """
    try:
        yield
    except UnidentifiedImageError as error:
        raise kind(f"{name} is not a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise kind(f"{name} is too large to open safely: {error}") from error
    except (OSError, SyntaxError, ValueError, IndexError) as error:
        raise kind(f"{name} is corrupt or cut short: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL image to 8-bit RGB."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds numbers that are not finite")
        top = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1.0)
        gray = np.clip(values / top * 255.0, 0, 255).round().astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB image into a float tensor (3, H, W) in [0, 1]."""
    return F.to_dtype(F.to_image(image), torch.float32, scale=True)


def to_uint8(image: Tensor) -> np.ndarray:
    """Turn a tensor (3, H, W) or (1, H, W) in [0, 1] into an array (H, W, 3) of bytes."""
    array = image.detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(array.transpose(1, 2, 0), (*array.shape[1:], 3)))


def save_image(image: Tensor | np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Write an image (3, H, W) in [0, 1], or (H, W, 3) bytes, atomically."""
    array = to_uint8(image) if isinstance(image, Tensor) else image
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary)
    return Path(path)


def save_gif(
    frames: Iterable[Image.Image], path: str | os.PathLike[str], milliseconds: int | list[int]
) -> Path:
    """Write images of one size, in order, as an animation that repeats; atomically.

    Args:
        frames: The images.
        path: Where to.
        milliseconds: How long one is shown; one number for all, or one each.
    """
    first, *others = frames
    with atomic_path(path) as temporary:
        first.save(
            temporary, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0
        )
    return Path(path)


def load_image(path: str | os.PathLike[str], preprocessing: Preprocessing | None = None) -> Tensor:
    """Read an image as a tensor (3, H, W) in [0, 1], prepared for a model if its way is given."""
    image = open_image(path)
    return to_tensor(image) if preprocessing is None else evaluation_transform(preprocessing)(image)


def evaluation_crop(preprocessing: Preprocessing) -> v2.Transform:
    """The resizing and cropping of the model's own test-time view: PIL image → PIL image."""
    interpolation = INTERPOLATIONS[preprocessing.interpolation]
    height, width = preprocessing.size
    if preprocessing.crop_mode == "squash":
        return v2.Resize([height, width], interpolation)
    resized = list(preprocessing.resized)
    shape = resized[0] if height == width else resized
    return v2.Compose([v2.Resize(shape, interpolation), v2.CenterCrop([height, width])])


def evaluation_transform(preprocessing: Preprocessing) -> v2.Transform:
    """The model's own test-time view: PIL image → tensor (3, H, W) in [0, 1]."""
    steps = [evaluation_crop(preprocessing), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose(steps)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """List the image files below a folder, sorted by path.

    Raises:
        ImageError: If the folder is missing or holds none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"no folder at {root}")
    names = list_files(root).images
    if not names:
        raise ImageError(f"{root} holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    return [root / name for name in names]
