"""Several relevance methods over one pass of a masked set, a row for each picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data
from torch.utils.data import DataLoader
from tqdm import tqdm

from vitreous.attribution import explain
from vitreous.data.dataset import Dataset
from vitreous.data.images import evaluation_crop, to_tensor
from vitreous.errors import ImageError, UnsupportedModelError, VitreousError
from vitreous.evaluation.pixel_removal import FRACTIONS, removal_hits
from vitreous.evaluation.prediction import weights_fingerprint
from vitreous.evaluation.processes import ALONE, Processes
from vitreous.evaluation.scoring import READ, UNREADABLE
from vitreous.evaluation.segmentation import foreground_share, pointing_hits, segmentation_counts
from vitreous.evaluation.shards import Shards, fingerprint
from vitreous.models import Classifier, Preprocessing
from vitreous.models.modes import evaluation_mode

CURVE = 1 + len(FRACTIONS)
METHOD_TYPE = np.dtype(
    [
        ("counts", "i8", (6,)),
        ("average_precision", "f8"),
        ("pointing", "f8"),
        ("share", "f8"),
        ("constant", "?"),
        ("removal", "?", (2, CURVE)),
    ]
)


@dataclasses.dataclass(frozen=True)
class ExplanationSettings:
    """How explanations are measured.

    Attributes:
        methods: Names of relevance methods.
        removal: Also remove pixels by their relevance (18 more forward passes for each method).
        batch_size: Pictures in a pass.
        workers: Processes that read pictures beside the model.
        squash: Resize pictures to the input whatever their shape, as the ImageNet-Segmentation
            protocol does; otherwise the model's own resize and crop.
        limit: At most this many pictures; 0 means all.
        progress: Show a progress bar.
    """

    methods: tuple[str, ...] = ("gradient_attention",)
    removal: bool = True
    batch_size: int = 16
    workers: int = 0
    squash: bool = True
    limit: int = 0
    progress: bool = True

    def preprocessing(self, own: Preprocessing) -> Preprocessing:
        """The view that is used instead of the model's own."""
        if not self.squash:
            return own
        return dataclasses.replace(own, crop_mode="squash", interpolation="bilinear")


@dataclasses.dataclass(frozen=True)
class Explained:
    """What was measured on one masked set.

    Attributes:
        name: The set.
        rows: One for each picture: `index`, `status`, `label`, `prediction` and a `METHOD_TYPE`
            under each method's name.
        methods: The methods that hold for this model.
        unsupported: Method → why it does not hold.
        reasons: Why pictures could not be read: index → reason.
        names: Their names: index → name.
        preprocessing: How they were prepared.
        removal: Whether pixels were removed.
    """

    name: str
    rows: np.ndarray
    methods: tuple[str, ...]
    unsupported: dict[str, str]
    reasons: dict[int, str]
    names: dict[int, str]
    preprocessing: Preprocessing
    removal: bool


def supported_methods(
    classifier: Classifier, methods: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Try each method on one blank picture: those that hold, and why the others do not.

    Raises:
        VitreousError: For an unknown method.
    """
    good, bad = [], {}
    blank = torch.zeros(1, 3, *classifier.preprocessing.size, device=classifier.device)
    for method in methods:
        try:
            explain(classifier, blank, method=method)
        except UnsupportedModelError as error:
            bad[method] = str(error)
        else:
            good.append(method)
    return tuple(good), bad


def measure_explanations(
    classifier: Classifier,
    items: Dataset,
    name: str,
    folder: Path,
    *,
    explaining: ExplanationSettings | None = None,
    weights: str = "",
    processes: Processes = ALONE,
) -> Explained:
    """Explain every picture's predicted class by several methods and compare with its mask.

    Rows are kept on disk as in `predictions`: a killed call that is repeated goes on.

    Args:
        classifier: The model.
        items: Pictures with masks; a label of -1 means unknown.
        name: How results call the set.
        folder: Rows go to a folder in it.
        explaining: Methods and settings.
        weights: `weights_fingerprint` of the model, where the caller knows it.
        processes: Which of several processes this is.

    Raises:
        VitreousError: If none of the methods holds for this model, or no picture has a mask.
    """
    explaining = explaining or ExplanationSettings()
    methods, unsupported = supported_methods(classifier, explaining.methods)
    if not methods:
        raise VitreousError(f"{classifier.name}: {next(iter(unsupported.values()))}")
    preprocessing = explaining.preprocessing(classifier.preprocessing)
    header = {
        "set": name,
        "count": len(items),
        "ends": [items.name(0), items.name(len(items) - 1)],
        "weights": weights or weights_fingerprint(classifier),
        "methods": methods,
        "removal": explaining.removal,
        "preprocessing": dataclasses.asdict(preprocessing),
    }
    kind = np.dtype(
        [("index", "i4"), ("status", "i1"), ("label", "i4"), ("prediction", "i4")]
        + [(m, METHOD_TYPE) for m in methods]
    )
    place = folder / f"{name}-explanations-{fingerprint(header)}"
    shards = Shards(place, header, kind, processes.rank)
    chosen = np.arange(len(items))
    if explaining.limit:
        chosen = chosen[: explaining.limit]
    left = np.setdiff1d(chosen, shards.read()["index"])
    processes.wait()
    share = left[processes.rank :: processes.count]
    with tqdm(
        total=len(share),
        desc=f"{name} explained",
        unit="pic",
        leave=False,
        disable=not explaining.progress,
    ) as bar:
        for rows, reasons in _measured(classifier, items, share, kind, methods, explaining):
            shards.append(rows, reasons)
            bar.update(len(rows))
    processes.wait()
    rows = shards.read()
    rows = rows[np.isin(rows["index"], chosen)]
    if not (rows["status"] == READ).any():
        raise VitreousError(f"{name}: none of {len(rows)} pictures has a mask that can be read")
    reasons = shards.reasons()
    names = {i: items.name(i) for i in reasons}
    return Explained(
        name, rows, methods, unsupported, reasons, names, preprocessing, explaining.removal
    )


def _measured(
    classifier: Classifier,
    items: Dataset,
    chosen: np.ndarray,
    kind: np.dtype,
    methods: tuple[str, ...],
    explaining: ExplanationSettings,
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    masked = _Masked(items, explaining.preprocessing(classifier.preprocessing), chosen)
    loader = DataLoader(
        masked,
        batch_size=explaining.batch_size,
        num_workers=explaining.workers,
        collate_fn=lambda samples: samples,
    )
    with evaluation_mode(classifier):
        for samples in loader:
            good = [s for s in samples if not isinstance(s[1], str)]
            bad = {s[0]: s[1] for s in samples if isinstance(s[1], str)}
            rows = np.zeros(len(good) + len(bad), kind)
            rows["index"] = [s[0] for s in good] + list(bad)
            rows["status"][len(good) :] = UNREADABLE
            if good:
                images, masks = (torch.stack([s[i] for s in good]) for i in (1, 2))
                labels = torch.tensor([s[3] for s in good])
                _fill(rows[: len(good)], classifier, images, masks, labels, methods, explaining)
            yield rows, bad


def _fill(
    rows: np.ndarray,
    classifier: Classifier,
    images: Tensor,
    masks: Tensor,
    labels: Tensor,
    methods: tuple[str, ...],
    explaining: ExplanationSettings,
) -> None:
    images = images.to(classifier.device)
    with torch.no_grad():
        prediction = classifier(images).argmax(1)
    rows["label"], rows["prediction"] = labels, prediction.cpu()
    right = torch.where(labels.to(prediction.device) >= 0, labels.to(prediction.device), prediction)
    for method in methods:
        found = explain(classifier, images, prediction, method)
        maps, into = found.relevance.detach().cpu(), rows[method]
        into["counts"], into["average_precision"] = segmentation_counts(maps, masks[:, 0])
        into["pointing"] = pointing_hits(maps, masks)
        into["share"] = foreground_share(maps, masks)
        into["constant"] = found.constant.cpu()
        if explaining.removal:
            into["removal"] = removal_hits(classifier, images, found.relevance, right).cpu()


class _Masked(data.Dataset[tuple[Any, ...]]):
    def __init__(self, items: Dataset, preprocessing: Preprocessing, chosen: np.ndarray):
        self.items, self.chosen = items, chosen
        self.view = evaluation_crop(preprocessing)
        nearest = dataclasses.replace(preprocessing, interpolation="nearest")
        self.mask_transform = evaluation_crop(nearest)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        number = int(self.chosen[index])
        try:
            item = self.items[number]
        except ImageError as error:
            return number, str(error)
        if item.mask is None:
            return number, f"{item.name} has no mask"
        gray = Image.fromarray((item.mask[0] > 0.5).to(torch.uint8).mul(255).numpy())
        image, mask = to_tensor(self.view(item.image)), to_tensor(self.mask_transform(gray))
        return number, image, mask, item.label
