"""The pictures of a recording: files in a folder or in a zip, in the order of the responses."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitreous.brain.checks import check_unique
from vitreous.data.images import EXTENSIONS, decode_image, list_images, open_image
from vitreous.errors import ImageError, VitreousError

GREY = (128, 128, 128)


@dataclasses.dataclass(frozen=True)
class Stimuli:
    """Pictures with unique names.

    Attributes:
        names: The stimulus id of each picture.
        files: File of each picture; its name inside `archive` where there is one.
        archive: The zip that holds them, or None.
        degrees: Visual angle that the pictures spanned for the animal or person, or None where
            unknown: then they fill the model's field of view.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    archive: str | None = None
    degrees: float | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.files):
            raise VitreousError(f"{len(self.names)} names for {len(self.files)} pictures")
        check_unique(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int) -> Image.Image:
        """Read one picture as RGB."""
        if self.archive is None:
            return open_image(self.files[index])
        name = f"{self.archive}:{self.files[index]}"
        return decode_image(io.BytesIO(self._bytes(index)), name)

    def digest(self) -> str:
        """A hash of the pictures' names and bytes, in order."""
        total = hashlib.sha256(repr((self.names, self.degrees)).encode())
        for index in range(len(self)):
            total.update(hashlib.sha256(self._bytes(index)).digest())
        return total.hexdigest()

    def select(self, names: Sequence[str]) -> Stimuli:
        """The pictures of these names, in this order.

        Raises:
            VitreousError: If some name has no picture.
        """
        position = {name: i for i, name in enumerate(self.names)}
        missing = [name for name in names if name not in position]
        if missing:
            raise VitreousError(
                f"pictures and responses do not match: {len(missing)} of {len(names)} stimulus "
                f"ids have no picture, first '{missing[0]}'; the pictures are called like "
                f"'{self.names[0]}'"
            )
        files = tuple(self.files[position[name]] for name in names)
        return dataclasses.replace(self, names=tuple(names), files=files)

    def _bytes(self, index: int) -> bytes:
        if self.archive is not None:
            return _archive(self.archive).read(self.files[index])
        try:
            return Path(self.files[index]).read_bytes()
        except OSError as error:
            raise ImageError(f"no picture at {self.files[index]}") from error


def read_stimuli(place: str | os.PathLike[str], degrees: float | None = None) -> Stimuli:
    """Take all pictures of a folder or a zip, sorted; a picture's name is its file's stem.

    Raises:
        VitreousError: If there are none, or two have one stem.
    """
    path = Path(place)
    if path.suffix == ".zip":
        files = sorted(
            name
            for name in _archive(str(path)).namelist()
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("__MACOSX")
        )
        if not files:
            raise ImageError(f"{path} holds no pictures")
        return Stimuli(tuple(Path(f).stem for f in files), tuple(files), str(path), degrees)
    found = list_images(path)
    return Stimuli(tuple(f.stem for f in found), tuple(map(str, found)), None, degrees)


def place_in_view(image: Image.Image, degrees: float | None, field: float) -> Image.Image:
    """Show a picture at its visual angle to a model with a given field of view.

    A picture that spanned less than the field is padded with grey, one that spanned more is
    cropped at its centre, as Brain-Score's screen does.

    Args:
        image: RGB.
        degrees: What the picture spanned for the subject; None shows it over the whole field.
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


@functools.lru_cache(maxsize=4)
def _archive(path: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise ImageError(f"no zip at {path}") from error
    except zipfile.BadZipFile as error:
        raise ImageError(f"{path} is not a zip, or it is cut short") from error
