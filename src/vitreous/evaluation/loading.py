"""From a dataset to batches of bytes, in worker processes; bad files travel as reasons."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vitreous.data.dataset import Dataset
from vitreous.data.decoding import reduced_decoding, shorter_side
from vitreous.data.images import evaluation_crop
from vitreous.data.reading_process import endings_held_back, leave_ending_to_the_parent
from vitreous.errors import ImageError
from vitreous.evaluation.test_sets import TestSet
from vitreous.evaluation.test_sets.base import ResizeMode
from vitreous.fingerprint import number_of
from vitreous.models import Preprocessing

Crop = Callable[[Image.Image], Image.Image]


@dataclasses.dataclass(frozen=True)
class View:
    """How items become inputs.

    Attributes:
        preprocessing: The model's own, or another.
        resize_mode: `model`: by the preprocessing; `whole`: the same to the last bit of a crop of
            the whole image resized, at twice the work; `as_is`: images are ready, they are only
            resized where the input has another size; `squash`: resized to the input.
        border: Pixels cut off all around first.
        masks: Masks are needed: an item without one counts as unreadable.
    """

    preprocessing: Preprocessing
    resize_mode: ResizeMode = "model"
    border: int = 0
    masks: bool = False

    def crop(self) -> Crop:
        """Make the view PIL → PIL of an image."""
        height, width = self.preprocessing.size
        whole = self.resize_mode == "whole" or self.preprocessing.decoding == "whole"
        if self.resize_mode == "model" and not whole:
            view = center_transform(self.preprocessing)
        elif self.resize_mode in ("model", "whole"):
            view = evaluation_crop(self.preprocessing)
        else:
            view = evaluation_crop(dataclasses.replace(self.preprocessing, crop_mode="squash"))

        def crop(image: Image.Image) -> Image.Image:
            if self.border:
                edge = self.border
                image = image.crop((edge, edge, image.width - edge, image.height - edge))
            ready = self.resize_mode == "as_is" and image.size == (width, height)
            return image if ready else view(image)

        return crop

    @property
    def shortest(self) -> int:
        """What an image's shorter side must have when it is decoded; 0 for all that it has."""
        plain = self.resize_mode == "model" and not self.border and not self.masks
        if self.preprocessing.decoding != "reduced" or not plain:
            return 0
        return max(self.preprocessing.resized)

    def described(self) -> dict[str, object]:
        """What tells views apart."""
        return dataclasses.asdict(self) | {"preprocessing": self.preprocessing.described()}

    def of_masks(self) -> View:
        """The same view for masks, whose values are not mixed."""
        nearest = dataclasses.replace(self.preprocessing, interpolation="nearest")
        return dataclasses.replace(self, preprocessing=nearest)


@dataclasses.dataclass(frozen=True)
class EvaluationBatch:
    """Some items of a dataset, ready for a model.

    Training's `vitreous.data.batch.Batch` is whole and cut to pieces; this one comes from files
    that may be unreadable, is bytes until it is on the device, and brings a seed for each item.

    Attributes:
        indices: (B,) int64, which items.
        images: (B, H, W, 3) bytes as they are read, or (B, 3, H, W) floats in [0, 1].
        labels: (B,) int64; -1 where unknown.
        seeds: (B,) int64 that follow from the items' names alone, for random choices: these
            depend neither on the batch nor on what else is in the dataset.
        masks: (B, 1, H, W) floats, 1 = foreground; None where they are not needed.
        unreadable: Index → reason, of the items of this batch that are not in it.
    """

    indices: Tensor
    images: Tensor
    labels: Tensor
    seeds: Tensor
    masks: Tensor | None = None
    unreadable: dict[int, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)

    def on(self, device: torch.device) -> EvaluationBatch:
        """The batch with its images as floats (B, 3, H, W) in [0, 1] on a device."""
        return dataclasses.replace(self, images=images_on(self, device))


def view_of(test_set: TestSet, preprocessing: Preprocessing) -> View:
    """How a set's images become a model's inputs."""
    return View(preprocessing, test_set.resize_mode, test_set.border)


def crop_for(test_set: TestSet, preprocessing: Preprocessing) -> Crop:
    """Make the view PIL → PIL of a set's images for a model's input."""
    return view_of(test_set, preprocessing).crop()


def center_transform(preprocessing: Preprocessing) -> Crop:
    """Make the model's own view, at about half the work.

    Only what the crop will show is resized. The filter sees the same pixels at the same places as
    when the whole image is resized and then cropped, so that the result is the same but for
    rounding: about 7 of 100,000 bytes differ, by 2 of 255 at most.
    """
    whole = evaluation_crop(preprocessing)
    height, width = preprocessing.size
    short = int(height / preprocessing.crop_ratio)
    if preprocessing.crop_mode != "center" or height != width or short < height:
        return whole
    filter_name = Image.Resampling[preprocessing.interpolation.upper()]

    def view(image: Image.Image) -> Image.Image:
        scale = min(image.size)
        across, down = (short * side // scale for side in image.size)
        left, top = round((across - width) / 2), round((down - height) / 2)
        x, y = image.width / across, image.height / down
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        return image.resize((width, height), filter_name, box)

    return view if preprocessing.interpolation != "nearest" else whole


def name_seed(name: str) -> int:
    """63 bits that follow from an item's name."""
    return number_of(name) >> 1


@dataclasses.dataclass(frozen=True)
class _Sample:
    index: int
    image: np.ndarray
    label: int
    seed: int
    mask: np.ndarray | None


class _Samples(TorchDataset[_Sample | tuple[int, str]]):
    def __init__(self, dataset: Dataset, view: View, indices: np.ndarray):
        self.dataset, self.indices, self.view, self.masks = dataset, indices, view, view.masks

    # Made where images are read: a worker that is spawned could not be sent a function's insides.
    @functools.cached_property
    def crop(self) -> Crop:
        return self.view.crop()

    @functools.cached_property
    def mask_crop(self) -> Crop:
        return self.view.of_masks().crop()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> _Sample | tuple[int, str]:
        number = int(self.indices[index])
        try:
            return self._read(number)
        except ImageError as error:
            return number, str(error)

    def _read(self, index: int) -> _Sample:
        name, mask = self.dataset.name(index), None
        if self.masks:
            item = self.dataset[index]
            if item.mask is None:
                raise ImageError(f"{name} has no mask")
            gray = Image.fromarray((item.mask[0] > 0.5).to(torch.uint8).mul(255).numpy())
            image, mask = item.image, np.asarray(self.mask_crop(gray)) > 127
        else:
            least = self.view.shortest
            with reduced_decoding(shorter_side(least) if least else None):
                image = self.dataset.images.open(index)
        pixels = np.asarray(self.crop(image))
        return _Sample(index, pixels, self.dataset.label(index), name_seed(name), mask)


def _collate(samples: list[_Sample | tuple[int, str]]) -> EvaluationBatch:
    good = [s for s in samples if isinstance(s, _Sample)]
    bad = dict(s for s in samples if not isinstance(s, _Sample))
    images = np.stack([s.image for s in good]) if good else np.zeros((0, 1, 1, 3), np.uint8)
    masks = None
    if good and good[0].mask is not None:
        masks = torch.from_numpy(np.array([s.mask for s in good])).float()[:, None]

    def numbers(name: str) -> Tensor:
        return torch.tensor([getattr(s, name) for s in good], dtype=torch.int64)

    return EvaluationBatch(
        numbers("index"), torch.from_numpy(images), numbers("label"), numbers("seed"), masks, bad
    )


def batches(
    dataset: Dataset,
    view: View,
    indices: np.ndarray,
    *,
    batch_size: int = 64,
    workers: int = 0,
) -> Iterator[EvaluationBatch]:
    """Read items of a dataset, in order, a batch at a time.

    Args:
        dataset: The dataset.
        view: How items become inputs.
        indices: (N,) which items.
        batch_size: Images in a batch.
        workers: Processes that read and resize beside the caller.

    Yields:
        Batches; every index is in one of them, as an image or as a reason.
    """
    loader = DataLoader(
        _Samples(dataset, view, indices),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=leave_ending_to_the_parent,
        prefetch_factor=4 if workers else None,
    )
    with endings_held_back(workers):
        reading = iter(loader)
    yield from reading


def images_on(batch: EvaluationBatch, device: torch.device) -> Tensor:
    """Move a batch's images to a device, as floats (B, 3, H, W) in [0, 1].

    They are divided as timm's loader does; torchvision's `to_dtype`, which training's views go
    through, rounds otherwise.
    """
    images = batch.images.pin_memory() if device.type == "cuda" else batch.images
    moved = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return moved.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
