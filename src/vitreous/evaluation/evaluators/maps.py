"""Relevance maps of any number of images, each kept in a file as soon as it is made."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.attribution import METHODS, explain
from vitreous.attribution.compute import resolve_target
from vitreous.data.dataset import Dataset
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.evaluation.evaluators.explanation import supported_methods
from vitreous.evaluation.loading import EvaluationBatch, View
from vitreous.evaluation.rows import READ, item_type
from vitreous.evaluation.stream import Measured, StreamSettings, stream
from vitreous.fingerprint import digest
from vitreous.io import atomic_path
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.processes import ALONE, Processes
from vitreous.results import Record

TOP = 5
TOP_CLASSES = re.compile(r"top:?(\d+)")


@dataclasses.dataclass(frozen=True)
class MapSettings:
    """Which maps are made.

    Attributes:
        methods: Names of relevance methods.
        target: Class to explain: its number, its name, `A - B` for the difference of two, or
            `top:3` for each of the three most probable; the predicted one where not given.
        start_layer: First attention layer that counts.
    """

    methods: tuple[str, ...] = ("gradient_attention",)
    target: str | None = None
    start_layer: int = 0

    @property
    def each_of_top(self) -> int:
        """How many of the most probable classes are explained apart; 0 for one map each."""
        top = TOP_CLASSES.fullmatch(self.target or "")
        return int(top[1]) if top else 0


@dataclasses.dataclass(frozen=True)
class Maps:
    """Explain images by several methods; the maps go to files, what the model says to rows.

    Attributes:
        making: Methods (all of which hold for the model) and target.
        dataset: The images.
        folder: Where maps go: `KEY.npy` (methods · targets, H, W) float32, by `Dataset.key`.
        classes: How many classes the model has.
        content: Keys follow from what is in the files, not from size and time of change.
    """

    making: MapSettings
    dataset: Dataset
    folder: Path
    classes: int
    content: bool = False

    def __post_init__(self) -> None:
        if self.making.each_of_top > self.classes > 0:
            raise VitreousError(
                f"target {self.making.target}: the model has {self.classes} classes; give "
                f"top:{self.classes} or fewer"
            )

    @property
    def name(self) -> str:
        """What rows and progress bars are called."""
        return "explaining"

    def settings(self) -> dict[str, object]:
        """Methods, target, start layer."""
        return dataclasses.asdict(self.making)

    def row_type(self) -> np.dtype:
        """Fields `target` (one for each map of a method), `classes`, `probability`, `constant`."""
        targets = min(max(self.making.each_of_top, 1), self.classes)
        top = (min(TOP, self.classes),)
        return item_type(
            [
                ("target", "i4", (targets,)),
                ("classes", "i4", top),
                ("probability", "f4", top),
                ("constant", "?", (len(self.making.methods), targets)),
            ]
        )

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Explain a batch; each image's maps are on the disk before its row is."""
        rows, images = self.unread(len(batch)), batch.images
        targets, against = self._asked(classifier, images)
        maps = np.zeros((len(batch), len(self.making.methods), len(targets), *images.shape[-2:]))
        for place, method in enumerate(self.making.methods):
            for number, target in enumerate(targets):
                explained = explain(
                    classifier,
                    images,
                    target,
                    method,
                    against=against,
                    start_layer=self.making.start_layer,
                )
                rows["constant"][:, place, number] = explained.constant.cpu()
                rows["target"][:, number] = explained.target.cpu()
                maps[:, place, number] = explained.relevance[:, 0].float().cpu()
        top = explained.logits.float().softmax(1).topk(rows["classes"].shape[1])
        rows["classes"], rows["probability"] = top.indices.cpu(), top.values.cpu()
        for index, own in zip(batch.indices.tolist(), maps):
            self._keep(index, own)
        return rows

    def _asked(
        self, classifier: Classifier, images: Tensor
    ) -> tuple[Sequence[Tensor | None], Tensor | None]:
        """As `targets`; None is the predicted class, which an explanation finds by itself."""
        if self.making.target in (None, "predicted"):
            return [None], None
        # Of a class that is named only the number of rows and of classes matters.
        logits = images.new_zeros(len(images), self.classes)
        if self.making.each_of_top:
            with torch.no_grad():
                logits = classifier(images).float()
        targets, against = self.targets(classifier, logits)
        return list(targets), against

    def targets(self, classifier: Classifier, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Classes (maps of a method, B) that are explained, and the class (B,) against them.

        Raises:
            VitreousError: For a class that the model does not have.
        """
        wanted, names, against = self.making.target, classifier.class_names, None
        if self.making.each_of_top:
            return logits.topk(min(self.making.each_of_top, logits.shape[1])).indices.T, None
        if wanted is None or wanted == "predicted":
            return logits.argmax(1)[None], None
        if " - " in wanted:
            wanted, other = wanted.split(" - ", 1)
            against = resolve_target(logits, _number(other), names)
        return resolve_target(logits, _number(wanted), names)[None], against

    def file(self, index: int) -> Path:
        """Where an image's maps are."""
        (key,) = self.dataset.keys(np.array([index]), content=self.content).tolist()
        return self.folder / f"{key:016x}.npy"

    def _keep(self, index: int, maps: np.ndarray) -> None:
        with atomic_path(self.file(index), durable=False) as temporary, temporary.open("wb") as out:
            np.save(out, maps.reshape(-1, *maps.shape[-2:]).astype(np.float32))

    def unread(self, count: int) -> np.ndarray:
        """Empty rows."""
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        """Nothing: maps are no measurement."""
        return []


def _number(given: str) -> int | str:
    return int(given) if given.strip().isdecimal() else given


@dataclasses.dataclass(frozen=True)
class MappedImages:
    """Maps of a dataset by one model.

    Attributes:
        classifier: The model.
        evaluator: Which maps, and where they are.
        measured: What the model says of each image.
    """

    classifier: Classifier
    evaluator: Maps
    measured: Measured

    @property
    def readable(self) -> np.ndarray:
        """Rows of the images that could be read, sorted by index."""
        return self.measured.rows[self.measured.rows["status"] == READ]

    def labels(self, row: np.ndarray) -> list[str]:
        """What an image's maps are called: the method, and its class where there are several."""
        making = self.evaluator.making
        ends = [f"/{t}" for t in row["target"].tolist()] if making.each_of_top else [""]
        return [f"{method}{end}" for method in making.methods for end in ends]

    @property
    def against(self) -> int | None:
        """The class whose logit is taken away, where the difference of two is explained."""
        # Of a class that is named only the number of classes matters.
        logits = torch.zeros(1, self.evaluator.classes)
        _, against = self.evaluator.targets(self.classifier, logits)
        return None if against is None else int(against)

    def captions(self, row: np.ndarray) -> dict[str, str]:
        """Label → what an image of that map is called: the method, and in words what of it."""
        making, name = self.evaluator.making, self.classifier.class_name
        targets, against = row["target"].tolist(), self.against
        if making.each_of_top:
            ends = [f"\n{name(target)}" for target in targets]
        else:
            ends = [f"\n{name(targets[0])} - {name(against)}" if against is not None else ""]
        words = [f"{method.replace('_', ' ')}{end}" for method in making.methods for end in ends]
        return dict(zip(self.labels(row), words))

    def maps(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Label → map (H, W) float32 in [0, 1] of an image."""
        return dict(zip(self.labels(row), np.load(self.evaluator.file(int(row["index"])))))

    def constant(self, row: np.ndarray) -> dict[str, bool]:
        """Label → whether that map was constant, and so is all zeros."""
        return dict(zip(self.labels(row), row["constant"].ravel().tolist()))


def map_images(
    classifier: Classifier,
    dataset: Dataset,
    making: MapSettings,
    folder: Path,
    *,
    streaming: StreamSettings | None = None,
    processes: Processes = ALONE,
) -> MappedImages:
    """Explain a dataset through the measuring loop: a killed call that is repeated goes on.

    Methods that do not hold for the model are left out, unless none does.

    Args:
        classifier: The model.
        dataset: The images.
        making: Methods and target.
        folder: Rows and maps go to folders in it, named by all that they depend on.
        streaming: Batch size, workers, limit, restart.
        processes: Which of several processes this is.

    Raises:
        UnsupportedModelError: If no method holds for the model.
        VitreousError: For an unknown method or class.
    """
    methods, reasons = supported_methods(classifier, making.methods)
    if not methods:
        raise UnsupportedModelError(f"{classifier.name}: {next(iter(reasons.values()))}")
    making = dataclasses.replace(making, methods=methods)
    streaming, model = streaming or StreamSettings(batch_size=8), model_fingerprint(classifier)
    view = View(streaming.preprocessing or classifier.preprocessing, "whole")
    place = folder / f"maps-{digest(model, making, view, streaming.precision)}"
    content = streaming.check_content
    evaluator = Maps(making, dataset, place, classifier.num_classes, content)
    evaluator.targets(classifier, torch.zeros(1, classifier.num_classes))  # refused before work
    chosen = streaming.indices(dataset)
    lost = [i for i in chosen.tolist() if not evaluator.file(i).is_file()]
    measured = stream(
        classifier,
        dataset,
        evaluator,
        folder,
        view=view,
        streaming=streaming,
        processes=processes,
        model=model,
        again=np.array(lost, dtype=np.int64),
    )
    return MappedImages(classifier, evaluator, measured)


def method_names() -> list[str]:
    """All methods but the slow reference, which takes 196 passes for an image."""
    return [name for name in METHODS if name != "occlusion"]
