"""Activations of any layers of any classifier, streamed to memory-mapped files and reused.

A cache folder holds one folder for each (model, preparation, images) and in it one `.npy` for each
layer, with a small JSON beside it that says how many images are done. An interrupted run goes on
where it was; anything that `model_fingerprint` or `Dataset.key` tells apart gives another folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from vitreous.brain.layers import PIXELS, find_layers, record_layers
from vitreous.brain.stimuli import Stimuli, place_in_view
from vitreous.data.images import INTERPOLATIONS, to_tensor
from vitreous.disk import tidy, writing
from vitreous.errors import VitreousError
from vitreous.fingerprint import digest
from vitreous.io import read_json, write_json
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.models.modes import evaluation_mode
from vitreous.precision import Precision, autocast
from vitreous.processes import Processes, current_processes
from vitreous.progress import ProgressBar

FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Extraction:
    """How activations are taken.

    Attributes:
        batch_size: Images in a forward pass.
        degrees: The model's field of view in visual degrees; Brain-Score takes 8.
        storage: Type of the files: `float32`, or `float16` at half the size.
        device: Where the model runs.
        precision: Type of the forward pass.
        restart: Delete the activations of these layers and images, and take them anew.
        check_content: Tell whether an image changed by its content, not by its size and time.

    Examples:
        >>> settings = Extraction(batch_size=8, storage="float16")
        >>> settings.degrees, settings.precision
        (8.0, 'float32')
    """

    batch_size: int = 32
    degrees: float = 8.0
    storage: Literal["float32", "float16"] = "float32"
    device: str = "cpu"
    precision: Precision = "float32"
    restart: bool = False
    check_content: bool = False


def prepare(
    image: Image.Image, classifier: Classifier, degrees: float | None, field: float
) -> Tensor:
    """Turn an image into the model's input (3, H, W): placed in its view, resized as a whole."""
    preprocessing = classifier.preprocessing
    resize = v2.Resize(list(preprocessing.size), INTERPOLATIONS[preprocessing.interpolation])
    return to_tensor(resize(place_in_view(image, degrees, field)))


def model_inputs(
    classifier: Classifier,
    stimuli: Stimuli,
    chosen: Iterable[int],
    degrees: float | None,
    field: float,
) -> Tensor:
    """Some stimuli as the model's input (B, 3, H, W), on its device; see `prepare`."""
    images = [prepare(stimuli.open(i), classifier, degrees, field) for i in chosen]
    return torch.stack(images).to(classifier.device)


@contextlib.contextmanager
def inference_on(device: str, classifier: Classifier) -> Generator[None]:
    """Infer in evaluation mode on a device; give the model back in its modes, where it was."""
    before = classifier.device
    with evaluation_mode(classifier), torch.inference_mode():
        classifier.to(device)
        try:
            yield
        finally:
            classifier.to(before)


def cache_key(classifier: Classifier, stimuli: Stimuli, settings: Extraction) -> str:
    """Name everything that the activations depend on, as one hash."""
    return digest(
        FORMAT,
        model_fingerprint(classifier),
        [settings.degrees, settings.storage, settings.precision, stimuli.degrees],
        stimuli.dataset.keys(content=settings.check_content),
    )


def extract(
    classifier: Classifier,
    stimuli: Stimuli,
    layers: Sequence[str],
    cache: str | os.PathLike[str],
    settings: Extraction | None = None,
) -> dict[str, np.ndarray]:
    """Take the activations of layers for all images.

    Args:
        classifier: The model; its modes are given back as they were.
        stimuli: The images.
        layers: Names or patterns, see `find_layers`.
        cache: Folder of the files; what is there already is not computed again.
        settings: Batch size, field of view, type, device.

    Several processes of one launch share the images, and all return the whole.

    Returns:
        Layer → read-only memory map (images × units), in the model's order of layers.

    Raises:
        VitreousError: For an unknown layer (with the nearest names), an unreadable image, or a
            full disk.

    Examples:
        >>> import tempfile
        >>> import vitreous
        >>> from vitreous.data.dataset import Dataset
        >>> from vitreous.data.stores import ArrayImages
        >>> pixels = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
        >>> stimuli = Stimuli(Dataset(ArrayImages(pixels, ["a", "b", "c"]), np.full(3, -1)))
        >>> settings = {"pretrained": False, "image_size": 32, "depth": 2}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> values = extract(model, stimuli, ["blocks.*"], tempfile.mkdtemp())
        >>> {layer: array.shape for layer, array in values.items()}
        {'blocks.0': (3, 960), 'blocks.1': (3, 960)}
    """
    settings = settings or Extraction()
    names = find_layers(classifier, layers)
    folder = Path(cache) / cache_key(classifier, stimuli, settings)
    processes = current_processes(cpu=settings.device == "cpu")
    if processes.main:
        tidy(folder)
    for name in names if settings.restart and processes.main else ():
        for file in (_note(folder, name), _file(folder, name)):
            file.unlink(missing_ok=True)
    processes.wait()
    started = {name: _done(folder, name) for name in names}
    missing = [name for name in names if started[name] < len(stimuli)]
    if missing:
        first = min(started[name] for name in missing)
        _fill(classifier, stimuli, missing, folder, first, settings, processes)
    return {name: np.load(_file(folder, name), mmap_mode="r") for name in names}


def _fill(
    classifier: Classifier,
    stimuli: Stimuli,
    names: list[str],
    folder: Path,
    first: int,
    settings: Extraction,
    processes: Processes,
) -> None:
    """Compute the layers from image `first` on, noting after each round how far it is.

    In a round each process computes one batch, if any is left for it. The first process makes
    the files and the notes.
    """
    maps: dict[str, np.memmap] = {}
    step = _round(settings, processes)
    own = range(first + processes.rank * settings.batch_size, len(stimuli), step)
    batches = _activations(classifier, stimuli, names, own, settings)
    bar = ProgressBar(
        total=len(stimuli),
        initial=first,
        desc=f"activations of {len(names)} layers",
        quiet=not processes.main,
    )
    with bar:
        for start in range(first, len(stimuli), step):
            batch = next(batches, {})
            if not maps:
                _open_in_turn(maps, batch, names, folder, len(stimuli), settings, processes)
            place = start + processes.rank * settings.batch_size
            for name, values in batch.items():
                if settings.storage == "float16" and np.abs(values).max(initial=0) > 65504:
                    raise VitreousError(f"layer '{name}' exceeds float16; use storage float32")
                maps[name][place : place + len(values)] = values
            for mapped in maps.values():
                mapped.flush()
            processes.wait()
            stop = min(start + step, len(stimuli))
            for name in names if processes.main else ():
                write_json(_note(folder, name), {"done": stop})
            bar.update(stop - start)
    processes.wait()


def _round(settings: Extraction, processes: Processes) -> int:
    """Images that all processes compute together at once."""
    return settings.batch_size * processes.count


def _open_in_turn(
    maps: dict[str, np.memmap],
    batch: dict[str, np.ndarray],
    names: list[str],
    folder: Path,
    count: int,
    settings: Extraction,
    processes: Processes,
) -> None:
    """Open the files: the first process, whose batch tells their size, makes them."""
    for name in names if processes.main else ():
        maps[name] = _open(folder, name, count, batch[name].shape[1], settings)
    processes.wait()
    for name in () if processes.main else names:
        maps[name] = np.load(_file(folder, name), mmap_mode="r+")


def _activations(
    classifier: Classifier,
    stimuli: Stimuli,
    names: list[str],
    starts: Iterable[int],
    settings: Extraction,
) -> Iterator[dict[str, np.ndarray]]:
    """Activations of the batches that start at some images."""
    with (
        inference_on(settings.device, classifier),
        record_layers(classifier, names) as recorded,
    ):
        for start in starts:
            chosen = range(start, min(start + settings.batch_size, len(stimuli)))
            images = model_inputs(classifier, stimuli, chosen, stimuli.degrees, settings.degrees)
            if set(names) != {PIXELS}:
                with autocast(images.device, settings.precision):
                    classifier(images)
            values = {**recorded, PIXELS: images.flatten(1)}
            _require(names, values)
            yield {name: values[name].float().cpu().numpy() for name in names}


def _require(names: Iterable[str], recorded: dict[str, Tensor]) -> None:
    unused = [name for name in names if name not in recorded]
    if unused:
        raise VitreousError(
            f"layer '{unused[0]}' is not used in the model's forward pass (a fused or "
            "container module); choose a layer inside it or beside it"
        )


def _open(folder: Path, name: str, n: int, units: int, settings: Extraction) -> np.memmap:
    file = _file(folder, name)
    shape, kind = (n, units), np.dtype(settings.storage)
    if file.exists() and _done(folder, name):
        mapped = np.load(file, mmap_mode="r+")
        if mapped.shape == shape and mapped.dtype == kind:
            return mapped
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(file.parent).free < n * units * kind.itemsize:
        raise VitreousError(
            f"layer '{name}' needs {n * units * kind.itemsize / 2**30:.1f} GiB in {folder.parent}, "
            "which is not free; choose another --cache, fewer layers, or storage float16"
        )
    with writing(file):
        mapped = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)
        _reserve(file)
    return mapped


def _reserve(file: Path) -> None:
    """Take a file's space now: a mapped file that finds the disk full ends the process."""
    with contextlib.suppress(AttributeError), file.open("r+b") as opened:  # not on every system
        try:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on every file system
                raise


def _done(folder: Path, name: str) -> int:
    note = _note(folder, name)
    if not note.exists() or not _file(folder, name).exists():
        return 0
    return int(read_json(note)["done"])


def _file(folder: Path, name: str) -> Path:
    return folder / f"{_safe(name)}.npy"


def _note(folder: Path, name: str) -> Path:
    return folder / f"{_safe(name)}.json"


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)
