"""The images of a recording: files in a folder or in a zip, in the order of the responses."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.brain.checks import check_unique
from vitreous.data.dataset import UNKNOWN, Dataset, ImageStore
from vitreous.data.listing import is_image
from vitreous.data.readers.unlabelled import unlabelled
from vitreous.data.stores import NamedImages, ZipImages
from vitreous.data.stores.zips import open_zip
from vitreous.errors import ImageError, VitreousError

GREY = (128, 128, 128)


@dataclasses.dataclass(frozen=True)
class Stimuli:
    """Images with unique names, shown at a visual angle.

    Attributes:
        dataset: The images; their names are the stimulus ids.
        degrees: Visual angle that the images spanned for the animal or person, or None where
            unknown: then they fill the model's field of view.

    Examples:
        >>> import torch
        >>> from vitreous.data.stores import ArrayImages
        >>> pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
        >>> images = Dataset(ArrayImages(pixels, ["a", "b"]), np.full(2, UNKNOWN))
        >>> Stimuli(images, degrees=8.0).select(["b"]).names
        ('b',)
    """

    dataset: Dataset
    degrees: float | None = None

    def __post_init__(self) -> None:
        check_unique(self.names)

    def __len__(self) -> int:
        return len(self.dataset)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The stimulus id of each image."""
        return tuple(self.dataset.name(i) for i in range(len(self.dataset)))

    def open(self, index: int) -> Image.Image:
        """Read one image as RGB; raises `ImageError`."""
        return self.dataset.images.open(index)

    def digest(self) -> str:
        """A hash of the images' names and bytes, in order."""
        total = hashlib.sha256(repr((self.names, self.degrees)).encode())
        for index in range(len(self)):
            total.update(hashlib.sha256(self.dataset.images.content(index)).digest())
        return total.hexdigest()

    def select(self, names: Sequence[str]) -> Stimuli:
        """The images of these names, in this order.

        Raises:
            VitreousError: If some name has no image.
        """
        position = {name: i for i, name in enumerate(self.names)}
        missing = [name for name in names if name not in position]
        if missing:
            raise VitreousError(
                f"pictures and responses do not match: {len(missing)} of {len(names)} stimulus "
                f"ids have no picture, first '{missing[0]}'; the pictures are called like "
                f"'{self.names[0]}'"
            )
        return Stimuli(self.dataset.select([position[name] for name in names]), self.degrees)


def named_stimuli(
    images: ImageStore, names: Sequence[str], degrees: float | None = None
) -> Stimuli:
    """Take images under their stimulus ids.

    Raises:
        VitreousError: If there are not as many names as images, or two are the same.
    """
    if len(names) != len(images):
        raise VitreousError(f"{len(names)} names for {len(images)} pictures")
    labels = np.full(len(images), UNKNOWN, dtype=np.int64)
    return Stimuli(Dataset(NamedImages(images, tuple(names)), labels), degrees)


def read_stimuli(place: str | os.PathLike[str], degrees: float | None = None) -> Stimuli:
    """Take all images of a folder or a zip, sorted; an image's name is its file's stem.

    Raises:
        VitreousError: If there are none, or two have one stem.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.png", "a.png"):
        ...     Image.new("RGB", (8, 8)).save(folder / name)
        >>> read_stimuli(folder).names
        ('a', 'b')
    """
    path = Path(place)
    if path.suffix == ".zip":
        files = sorted(
            name
            for name in open_zip(path).namelist()
            if is_image(name) and not name.startswith("__MACOSX")
        )
        if not files:
            raise ImageError(f"{path} holds no pictures")
        return named_stimuli(ZipImages(path, files), [Path(f).stem for f in files], degrees)
    dataset = unlabelled(path)
    stems = [Path(dataset.name(i)).stem for i in range(len(dataset))]
    return named_stimuli(dataset.images, stems, degrees)


def place_in_view(image: Image.Image, degrees: float | None, field: float) -> Image.Image:
    """Show an image at its visual angle to a model with a given field of view.

    An image that spanned less than the field is padded with grey, one that spanned more is
    cropped at its centre, as Brain-Score's screen does.

    Args:
        image: RGB.
        degrees: What the image spanned for the subject; None shows it over the whole field.
        field: What the model is taken to see, in degrees.
    """
    if degrees is None or degrees == field:
        return image
    if degrees <= 0 or field <= 0:
        raise VitreousError(f"visual degrees: expected positive, found {degrees} and {field}")
    width, height = (round(field / degrees * side) for side in image.size)
    left, top = round((width - image.width) / 2), round((height - image.height) / 2)
    if field > degrees:
        screen = Image.new("RGB", (width, height), GREY)
        screen.paste(image, (left, top))
        return screen
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
