"""Which images a classifier has right, as they are, turned or corrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vitreous.evaluation.loading import EvaluationBatch, batches, view_of
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import accuracy_records
from vitreous.evaluation.scoring import Scorer, row_type, unreadable_rows
from vitreous.evaluation.stream import StreamSettings, measure, stream
from vitreous.evaluation.test_sets import TestSet
from vitreous.evaluation.test_sets.base import Condition
from vitreous.fingerprint import digest
from vitreous.models import Classifier, Preprocessing
from vitreous.processes import ALONE, Processes
from vitreous.results import Record


class Perturbation(Protocol):
    """What is done to images before the model sees them: frozen settings and a call."""

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """Perturb (B, 3, H, W) in [0, 1]; what is random follows from the seeds (B,) int64."""
        ...

    def settings(self) -> Condition:
        """What records say."""
        ...


class Accuracy:
    """Predictions and ranks of the right class under each convention of a set.

    Args:
        test_set: The set.
        perturbation: What is done to the images first.
    """

    def __init__(self, test_set: TestSet, perturbation: Perturbation | None = None):
        self.test_set, self.perturbation = test_set, perturbation
        self._scorer: Scorer | None = None

    @property
    def name(self) -> str:
        """The set."""
        return self.test_set.name

    def settings(self) -> dict[str, object]:
        """The set's rules, and the perturbation."""
        return {
            "set": self.test_set.name,
            "source": self.test_set.place or self.test_set.source,
            "part": self.test_set.settings,
            "accepted": digest(self.test_set.accepted),
            "conventions": [dataclasses.asdict(c) for c in self.test_set.conventions],
            "change": self.condition(),
        }

    def condition(self) -> Condition:
        """What records say of the perturbation."""
        return Condition() if self.perturbation is None else self.perturbation.settings()

    def row_type(self) -> np.dtype:
        """See `vitreous.evaluation.scoring.row_type`."""
        return row_type(self.test_set.conventions)

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Classify a batch; raises `VitreousError` if the model's classes are not the set's."""
        with torch.inference_mode():
            images = batch.images
            if self.perturbation is not None:
                images = self.perturbation(images, batch.seeds)
            logits = classifier(images)
        if self._scorer is None:
            self.test_set.check(logits.shape[1], classifier.name)
            self._scorer = Scorer(self.test_set, logits.shape[1], logits.device)
        return self._scorer.rows(batch.indices, logits)

    def unread(self, count: int) -> np.ndarray:
        """Rows that count as wrong."""
        return unreadable_rows(self.row_type(), count)

    def records(self, rows: np.ndarray) -> list[Record]:
        """Top-1 and top-5 under each convention and what else there is; see `accuracy_records`."""
        return accuracy_records(
            Predictions(self.test_set, rows, {}, Preprocessing(), self.condition())
        )


def predict(
    classifier: Classifier,
    test_set: TestSet,
    indices: np.ndarray | None = None,
    *,
    streaming: StreamSettings | None = None,
    perturbation: Perturbation | None = None,
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Stream images through a classifier without keeping anything.

    Args:
        classifier: The model; it is run in evaluation mode and left in the mode it was in.
        test_set: The set.
        indices: (N,) which images; all of them by default.
        streaming: Batch size, workers, precision, preprocessing.
        perturbation: What is done to the images first.

    Yields:
        Rows of a batch, unreadable images included, and the reasons of those.

    Raises:
        VitreousError: If the model's classes cannot be those of the set.

    Examples:
        >>> import vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.test_sets.base import single
        >>> scenes = Generated(size=32, train=4, validation=1).load(0).train
        >>> photos = TestSet("scenes", scenes, scenes.labels, single(8))
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> [rows["index"].tolist() for rows, _ in predict(model, photos, np.array([1, 3]))]
        [[1, 3]]
    """
    streaming = streaming or StreamSettings()
    dataset = test_set.dataset
    view = view_of(test_set, streaming.preprocessing or classifier.preprocessing)
    chosen = streaming.indices(dataset) if indices is None else indices
    parts = batches(
        dataset, view, chosen, batch_size=streaming.batch_size, workers=streaming.workers
    )
    yield from measure(classifier, Accuracy(test_set, perturbation), parts, streaming.precision)


def predictions(
    classifier: Classifier,
    test_set: TestSet,
    folder: Path,
    *,
    streaming: StreamSettings | None = None,
    perturbation: Perturbation | None = None,
    processes: Processes = ALONE,
    model: str = "",
) -> Predictions:
    """Predict a whole set through the measuring loop; see `vitreous.evaluation.stream.stream`.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.test_sets.base import single
        >>> scenes = Generated(size=32, train=4, validation=1).load(0).train
        >>> photos = TestSet("scenes", scenes, scenes.labels, single(8))
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> answers = predictions(model, photos, Path(tempfile.mkdtemp()))
        >>> answers.correct().shape, answers.reasons
        ((4,), {})
    """
    streaming = streaming or StreamSettings()
    preprocessing = streaming.preprocessing or classifier.preprocessing
    evaluator = Accuracy(test_set, perturbation)
    measured = stream(
        classifier,
        test_set.dataset,
        evaluator,
        folder,
        view=view_of(test_set, preprocessing),
        streaming=streaming,
        processes=processes,
        model=model,
    )
    return Predictions(
        test_set,
        measured.rows,
        measured.reasons,
        preprocessing,
        evaluator.condition(),
        measured.folder,
    )
