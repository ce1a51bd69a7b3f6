"""The one loop of evaluation: stream a set through a classifier, a row for each picture."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vitreous.evaluation.loading import Batch, as_floats, batches
from vitreous.evaluation.processes import ALONE, Processes
from vitreous.evaluation.scoring import READ, Scorer, row_type, unreadable_rows
from vitreous.evaluation.shards import Shards, fingerprint
from vitreous.evaluation.test_sets import Convention, TestSet
from vitreous.models import Classifier, Preprocessing
from vitreous.models.modes import evaluation_mode

Precision = Literal["float32", "bfloat16", "float16"]
Change = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """How pictures are streamed.

    Attributes:
        batch_size: Pictures in a forward pass.
        workers: Processes that read pictures beside the model.
        precision: Type of the forward pass.
        preprocessing: Instead of the model's own.
        limit: At most this many pictures of a set, evenly spread; 0 means all.
        progress: Show a progress bar.
    """

    batch_size: int = 64
    workers: int = 0
    precision: Precision = "float32"
    preprocessing: Preprocessing | None = None
    limit: int = 0
    progress: bool = True

    def indices(self, test_set: TestSet) -> np.ndarray:
        """Which pictures of a set are evaluated."""
        count = len(test_set)
        if not self.limit or self.limit >= count:
            return np.arange(count)
        return np.unique(np.linspace(0, count - 1, self.limit).astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a classifier answered on one set.

    Attributes:
        test_set: The set.
        rows: One for each picture, sorted by index; see `scoring.row_type`.
        reasons: Why pictures could not be read: index → reason.
        preprocessing: How the pictures were prepared.
        change: What was done to them, for records: `{}`, `{"angle": 90.0}`, …
    """

    test_set: TestSet
    rows: np.ndarray
    reasons: dict[int, str]
    preprocessing: Preprocessing
    change: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """The rules under which the rows were scored."""
        return self.test_set.conventions

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool: pictures that count under the first convention."""
        return self.counted_by(0)

    def counted_by(self, convention: int) -> np.ndarray:
        """(N,) bool: pictures that have an accepted class among a convention's candidates.

        Unreadable pictures count too, as wrong.
        """
        candidates = self.conventions[convention].classes
        among = None if candidates is None else set(candidates)
        some = [
            bool(classes) and (among is None or not among.isdisjoint(classes))
            for classes in self.test_set.accepted
        ]
        return np.array(some)[self.test_set.targets[self.rows["index"]]]

    def correct(self, convention: int = 0, top: int = 1) -> np.ndarray:
        """(N,) bool: an accepted class is among the first `top` candidates."""
        return self.rows[f"rank{convention}"] < top


def predict(
    classifier: Classifier,
    test_set: TestSet,
    indices: np.ndarray | None = None,
    *,
    streaming: StreamSettings | None = None,
    change: Change | None = None,
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Stream pictures through a classifier.

    Memory does not grow with the number of pictures: what is yielded is forgotten here.

    Args:
        classifier: The model; it is run in evaluation mode and left in the mode it was in.
        test_set: The set.
        indices: (N,) which pictures; all of them by default.
        streaming: Batch size, workers, precision, preprocessing.
        change: Applied to a batch (B, 3, H, W) in [0, 1] and its indices (B,) before the model.

    Yields:
        Rows of a batch, unreadable pictures included, and the reasons of those.

    Raises:
        VitreousError: If the model's classes cannot be those of the set.
    """
    streaming = streaming or StreamSettings()
    chosen = streaming.indices(test_set) if indices is None else indices
    preprocessing = streaming.preprocessing or classifier.preprocessing
    scorer: Scorer | None = None
    with evaluation_mode(classifier):
        for batch in batches(
            test_set,
            preprocessing,
            chosen,
            batch_size=streaming.batch_size,
            workers=streaming.workers,
        ):
            parts = []
            if len(batch.indices):
                logits = _forward(classifier, batch, change, streaming.precision)
                if scorer is None:
                    test_set.check(logits.shape[1], classifier.name)
                    scorer = Scorer(test_set, logits.shape[1], logits.device)
                parts.append(scorer.rows(batch.indices, logits))
            if batch.unreadable:
                kind = row_type(test_set.conventions)
                parts.append(unreadable_rows(kind, list(batch.unreadable)))
            yield np.concatenate(parts), batch.unreadable


def predictions(
    classifier: Classifier,
    test_set: TestSet,
    folder: Path,
    *,
    streaming: StreamSettings | None = None,
    change: Change | None = None,
    change_settings: dict[str, Any] | None = None,
    weights: str = "",
    processes: Processes = ALONE,
) -> Predictions:
    """Predict a whole set, keeping rows on disk: a killed call that is repeated goes on.

    Args:
        classifier: The model.
        test_set: The set.
        folder: Rows go to a folder in it, named by the set and a fingerprint of everything that
            they depend on.
        streaming: Batch size, workers, precision, preprocessing.
        change: As in `predict`.
        change_settings: What `change` does, for records and the fingerprint.
        weights: `weights_fingerprint` of the model, where the caller knows it.
        processes: Which of several processes this is; each takes its share of what is left, and
            all return the whole.

    Returns:
        The rows of all pictures.
    """
    streaming = streaming or StreamSettings()
    preprocessing = streaming.preprocessing or classifier.preprocessing
    chosen = streaming.indices(test_set)
    header = {
        "set": test_set.name,
        "part": test_set.settings,
        "pictures": names_fingerprint(test_set),
        "limit": streaming.limit,
        "model": classifier.name,
        "weights": weights or weights_fingerprint(classifier),
        "preprocessing": dataclasses.asdict(preprocessing),
        "precision": streaming.precision,
        "conventions": [c.name for c in test_set.conventions],
        "change": change_settings or {},
    }
    place = folder / f"{test_set.name}-{fingerprint(header)}"
    shards = Shards(place, header, row_type(test_set.conventions), processes.rank)
    left = np.setdiff1d(chosen, shards.read()["index"])
    processes.wait()
    share = left[processes.rank :: processes.count]
    label = " ".join([test_set.name, *(str(v) for v in test_set.settings.values())])
    with tqdm(
        total=len(share), desc=label, unit="pic", leave=False, disable=not streaming.progress
    ) as bar:
        right = seen = bad = 0
        for rows, reasons in predict(
            classifier, test_set, share, streaming=streaming, change=change
        ):
            shards.append(rows, reasons)
            right, seen = right + int((rows["rank0"] == 0).sum()), seen + len(rows)
            bad += int((rows["status"] != READ).sum())
            bar.set_postfix(top1=f"{right / seen:.3f}", bad=bad, refresh=False)
            bar.update(len(rows))
    processes.wait()
    rows = shards.read()
    rows = rows[np.isin(rows["index"], chosen)]
    return Predictions(test_set, rows, shards.reasons(), preprocessing, change_settings or {})


def names_fingerprint(test_set: TestSet) -> str:
    """Tell whether a set's list of pictures and targets is the one that was evaluated before."""
    digest = hashlib.sha256(test_set.targets.tobytes())
    for i in range(len(test_set)):
        digest.update(test_set.images.name(i).encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def weights_fingerprint(classifier: Classifier) -> str:
    """Tell one set of weights from another."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in classifier.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(repr([classifier.mean.tolist(), classifier.std.tolist()]).encode())
    return digest.hexdigest()


def _forward(
    classifier: Classifier, batch: Batch, change: Change | None, precision: Precision
) -> Tensor:
    device = classifier.device
    mixed = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
    with torch.inference_mode(), mixed:
        images = as_floats(batch, device)
        return classifier(images if change is None else change(images, batch.indices))
