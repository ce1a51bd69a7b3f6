"""ImageNet-Segmentation: images with foreground masks in one HDF5 file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.images import to_rgb
from vitreous.errors import VitreousError, require
from vitreous.io import file_stamp

SOURCE = (
    "Guillaumin et al. 2014, http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat"
)


class SegmentationFile:
    """The file `gtsegs_ijcv.mat` (MATLAB 7.3, which is HDF5): 4276 images, each with a mask.

    It is opened by each process that reads it; `read_segmentation` makes it a dataset.

    Args:
        path: The file.

    Raises:
        VitreousError: If it is missing or is another file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path, self._opened = Path(path), None
        self._process = -1
        if not self.path.is_file():
            raise VitreousError(f"no file at {self.path}; it comes from {SOURCE}")
        self._count = int(self._file()["value/img"].shape[0])

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """File and number."""
        return f"{self.path.name}/{index}"

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB."""
        return to_rgb(Image.fromarray(self._pixels(index)))

    def mask(self, index: int) -> Tensor:
        """Read a mask (1, H, W) of 0 and 1."""
        file = self._file()
        nested = file[file["value/gt"][index, 0]]
        mask = np.array(file[nested[0, 0]]).transpose(1, 0)
        return torch.from_numpy((mask > 0).astype(np.float32))[None]

    def stamp(self, index: int) -> tuple[int, ...]:
        """Size and time of change of the file."""
        return file_stamp(self.path)

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self._pixels(index).tobytes()

    def _pixels(self, index: int) -> np.ndarray:
        file = self._file()
        pixels = np.array(file[file["value/img"][index, 0]]).transpose(2, 1, 0)
        return np.ascontiguousarray(pixels.astype(np.uint8))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_opened": None, "_process": -1}

    def _file(self) -> Any:
        if self._process != os.getpid():
            h5py = require("h5py", "evaluation")
            try:
                self._opened = h5py.File(self.path, "r")
                if "value/img" not in self._opened or "value/gt" not in self._opened:
                    raise VitreousError(
                        f"{self.path} holds {', '.join(self._opened) or 'nothing'}; expected "
                        f"value/img and value/gt. It comes from {SOURCE}"
                    )
            except OSError as error:
                raise VitreousError(
                    f"{self.path} is not an intact HDF5 file: {error}; it comes from {SOURCE}"
                ) from error
            self._process = os.getpid()
        return self._opened


@dataclasses.dataclass(frozen=True, eq=False)
class SegmentationMasks:
    """The masks of such a file.

    Attributes:
        file: The file.
    """

    file: SegmentationFile

    def has(self, index: int) -> bool:
        """All images have one."""
        return True

    def open(self, index: int) -> Tensor | None:
        """Read a mask (1, H, W) of 0 and 1."""
        return self.file.mask(index)

    def stamp(self, index: int) -> tuple[int, ...]:
        """Size and time of change of the file."""
        return self.file.stamp(index)

    def content(self, index: int) -> bytes:
        """The pixels."""
        return self.file.mask(index).numpy().tobytes()


def read_segmentation(path: str | os.PathLike[str]) -> Dataset:
    """Read ImageNet-Segmentation's file; it has no labels, so all are -1.

    Raises:
        VitreousError: If it is missing or is another file.
    """
    file = SegmentationFile(path)
    labels = np.full(len(file), UNKNOWN, dtype=np.int64)
    return Dataset(file, labels, masks=SegmentationMasks(file))
