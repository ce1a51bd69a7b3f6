"""ImageNet-Segmentation: pictures with foreground masks in one HDF5 file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.images import to_rgb
from vitreous.errors import VitreousError, require

SOURCE = (
    "Guillaumin et al. 2014, http://calvin-vision.net/bigstuff/proj-imagenet/data/gtsegs_ijcv.mat"
)


class SegmentationFile:
    """The file `gtsegs_ijcv.mat` (MATLAB 7.3, which is HDF5): 4276 pictures and masks.

    It has no labels, so `read` gives -1; the file is opened by each process that reads it.

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
        """Number of pictures."""
        return self._count

    def name(self, index: int) -> str:
        """File and number."""
        return f"{self.path.name}/{index}"

    def read(self, index: int) -> tuple[Image.Image, Tensor | None, int]:
        """Read one: RGB picture, mask (1, H, W), -1."""
        file = self._file()
        pixels = np.array(file[file["value/img"][index, 0]]).transpose(2, 1, 0)
        nested = file[file["value/gt"][index, 0]]
        mask = np.array(file[nested[0, 0]]).transpose(1, 0)
        image = to_rgb(Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8))))
        return image, torch.from_numpy((mask > 0).astype(np.float32))[None], -1

    def __getstate__(self) -> dict[str, Any]:
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
