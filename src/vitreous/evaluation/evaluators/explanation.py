"""Relevance maps of several methods against masks, and what removing pixels by them does."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.attribution import explain, explain_all
from vitreous.attribution.compute import Explanation as ExplainedImages
from vitreous.data.dataset import Dataset
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.evaluation.evaluators.explanation_records import (
    METHOD_TYPE,
    explanation_records,
    removal_curves,
    scored_against,
)
from vitreous.evaluation.evaluators.method_benchmark import MethodBenchmark
from vitreous.evaluation.loading import EvaluationBatch, View
from vitreous.evaluation.pixel_removal import removal_hits
from vitreous.evaluation.rows import READ, item_type
from vitreous.evaluation.segmentation import (
    TOLERANCE,
    foreground_share,
    pointing_hits,
    segmentation_counts,
)
from vitreous.evaluation.stream import Measured, StreamSettings, stream
from vitreous.models import Classifier, Preprocessing
from vitreous.precision import Precision, autocast
from vitreous.processes import ALONE, Processes
from vitreous.results import Record

NOT_SQUASHED = {"squash": False}


@dataclasses.dataclass(frozen=True)
class ExplanationSettings:
    """How explanations are measured.

    Attributes:
        methods: Names of relevance methods.
        removal: Also remove pixels by their relevance (18 more forward passes for each method).
        squash: Resize images to the input whatever their shape, as the ImageNet-Segmentation
            protocol does; otherwise the model's own resize and crop.
        tolerance: Of the pointing game, in pixels of the model's input.
        passes: Type of the passes over images with pixels removed; the others' if None.
        benchmark: Also measure how far each method's maps can be believed, see `method_benchmark`.

    Examples:
        >>> ExplanationSettings(methods=("rollout", "occlusion"), removal=False).tolerance
        15
    """

    methods: tuple[str, ...] = ("gradient_attention",)
    removal: bool = True
    squash: bool = True
    tolerance: int = TOLERANCE
    benchmark: bool = False
    passes: Precision | None = None

    def view(self, own: Preprocessing) -> View:
        """The view that is used instead of the model's own."""
        if self.squash:
            own = dataclasses.replace(own, crop_mode="squash", interpolation="bilinear")
        return View(own, masks=True)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Explain every image's predicted class by several methods and compare with its mask.

    Attributes:
        dataset: How results call what is explained.
        explaining: Methods (all of which hold for the model) and settings.
    """

    dataset: str
    explaining: ExplanationSettings

    @property
    def name(self) -> str:
        """The dataset."""
        return f"{self.dataset}-explanations"

    def settings(self) -> dict[str, object]:
        """Methods, removal, tolerance."""
        asked = dataclasses.asdict(self.explaining)
        return {name: value for name, value in asked.items() if name != "benchmark"}

    def row_type(self) -> np.dtype:
        """Fields `label`, `prediction`, and a `METHOD_TYPE` under each method's name."""
        methods = [(m, METHOD_TYPE) for m in self.explaining.methods]
        return item_type([("label", "i4"), ("prediction", "i4"), *methods])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Explain a batch."""
        assert batch.masks is not None
        rows, images = self.unread(len(batch)), batch.images
        with torch.no_grad():
            prediction = classifier(images).argmax(1)
        labels = batch.labels.to(prediction.device)
        rows["label"], rows["prediction"] = batch.labels, prediction.cpu()
        right = torch.where(labels >= 0, labels, prediction)
        explained = explain_all(classifier, images, prediction, self.explaining.methods)
        for method, own in explained.items():
            self._fill(rows[method], classifier, batch, right, own)
        return rows

    def _fill(
        self,
        rows: np.ndarray,
        classifier: Classifier,
        batch: EvaluationBatch,
        right: Tensor,
        explained: ExplainedImages,
    ) -> None:
        """Fill the columns of one method."""
        masks = batch.masks
        assert masks is not None
        maps = explained.relevance.detach().float().cpu()
        rows["counts"], rows["average_precision"] = segmentation_counts(maps, masks[:, 0])
        rows["pointing"] = pointing_hits(maps, masks, self.explaining.tolerance)
        rows["share"] = foreground_share(maps, masks)
        rows["constant"] = explained.constant.cpu()
        if self.explaining.removal:
            with self._passes(batch.images.device):
                hits = removal_hits(classifier, batch.images, explained.relevance, right)
            rows["removal"] = hits.cpu()

    def _passes(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        kind = self.explaining.passes
        return contextlib.nullcontext() if kind is None else autocast(device, kind)

    def unread(self, count: int) -> np.ndarray:
        """Empty rows; they count for nothing."""
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        """Records of every method; see `explanation_records`."""
        how = self.explaining
        made = explanation_records(rows, self.dataset, how.methods, how.removal, how.tolerance)
        changed, passes = ("positive_area", "negative_area"), how.passes or "float32"
        return [record.made_in(passes) if record.metric in changed else record for record in made]


@dataclasses.dataclass(frozen=True)
class Explained:
    """What was measured on one masked dataset.

    Attributes:
        name: How results call it.
        explaining: The methods that hold for this model, and settings.
        measured: The rows.
        dataset: The images.
        unsupported: Method → why it does not hold.
        benchmarked: Rows of the benchmark of methods, where it was asked for.
    """

    name: str
    explaining: ExplanationSettings
    measured: Measured
    dataset: Dataset
    unsupported: dict[str, str]
    benchmarked: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """One for each image."""
        return self.measured.rows

    def records(self) -> list[Record]:
        """Records of every method."""
        records = Explanation(self.name, self.explaining).records(self.rows)
        if self.benchmarked is not None:
            benchmark = MethodBenchmark(self.name, self.explaining.methods)
            records += benchmark.records(self.benchmarked)
        if self.explaining.squash:
            return records
        return [dataclasses.replace(r, settings={**r.settings, **NOT_SQUASHED}) for r in records]

    def shares(self) -> dict[str, float]:
        """Name of an image → share of the first method's relevance on its foreground."""
        rows = self.rows[self.rows["status"] == READ]
        values = rows[self.explaining.methods[0]]["share"].tolist()
        names = (self.dataset.name(i) for i in rows["index"].tolist())
        return {n: v for n, v in zip(names, values) if np.isfinite(v)}

    def entry(self, reading: Mapping[str, str] | None = None) -> dict[str, object]:
        """The entry of `Results.extra`; `reading` is how masks and labels were read."""
        rows = self.rows
        bad = rows["index"][rows["status"] != READ].tolist()
        reasons, name = self.measured.reasons, self.dataset.name
        files = [{"file": name(i), "reason": reasons[i]} for i in bad[:100]]
        entry: dict[str, object] = {
            "source": self.name,
            "n": len(rows),
            "preprocessing": self.measured.view.preprocessing.described(),
            "convention": f"removal is scored against: {scored_against(rows)}",
            "unreadable": {"count": len(bad), "files": files},
            "left_out": [str(passed) for passed in self.dataset.left_out],
        }
        if self.unsupported:
            entry["unsupported"] = self.unsupported
        if self.explaining.removal:
            how = {**(reading or {}), "scored_against": scored_against(rows)}
            how |= {} if self.explaining.squash else NOT_SQUASHED
            curves = removal_curves(rows, self.explaining.methods)
            entry["explanations"] = {m: {**curve, "settings": how} for m, curve in curves.items()}
        return entry


def supported_methods(
    classifier: Classifier, methods: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Try each method on one blank image: those that hold, and why the others do not.

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
    dataset: Dataset,
    name: str,
    folder: Path,
    *,
    explaining: ExplanationSettings | None = None,
    streaming: StreamSettings | None = None,
    processes: Processes = ALONE,
    model: str = "",
) -> Explained:
    """Explain a masked dataset through the measuring loop; see `vitreous.evaluation.stream`.

    Args:
        classifier: The model.
        dataset: Images with masks; a label of -1 means unknown.
        name: How results call it.
        folder: Rows go to a folder in it.
        explaining: Methods and settings.
        streaming: Batch size, workers, limit, restart.
        processes: Which of several processes this is.
        model: `model_fingerprint` of the model, where the caller knows it.

    Raises:
        VitreousError: If none of the methods holds for this model, or no image has a mask.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> scenes = Generated(size=32, train=2, validation=1, masks="exact").load(0).train
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> folder, how = Path(tempfile.mkdtemp()), ExplanationSettings(("rollout",), removal=False)
        >>> explained = measure_explanations(model, scenes, "scenes", folder, explaining=how)
        >>> sorted(explained.rows.dtype.names)
        ['index', 'key', 'label', 'prediction', 'rollout', 'status']
    """
    asked = explaining or ExplanationSettings()
    methods, unsupported = supported_methods(classifier, asked.methods)
    if not methods:
        raise VitreousError(f"{classifier.name}: {next(iter(unsupported.values()))}")
    able = dataclasses.replace(asked, methods=methods)
    streaming = streaming or StreamSettings(batch_size=16)
    measure = functools.partial(
        stream,
        classifier,
        dataset,
        folder=folder,
        view=able.view(streaming.preprocessing or classifier.preprocessing),
        streaming=streaming,
        processes=processes,
        model=model,
    )
    measured = measure(Explanation(name, able))
    rows = measured.rows
    if not (rows["status"] == READ).any():
        why = next((f" (first: {reason})" for reason in measured.reasons.values()), "")
        raise VitreousError(f"{name}: none of {len(rows)} images has a mask that can be read{why}")
    benchmarked = measure(MethodBenchmark(name, methods)).rows if able.benchmark else None
    return Explained(name, able, measured, dataset, unsupported, benchmarked)
