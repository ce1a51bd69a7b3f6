"""The one measuring loop: a dataset through a classifier, a row for each item kept on disk.

An evaluator says what is measured of a batch and knows nothing of files, resuming or processes.
Rows lie in a folder named by one fingerprint of everything that all of them depend on: model,
precision, view, settings. Each row also holds its item's `Dataset.key` and is used only while the
item still has that key, so that an image that was replaced, repaired, renamed or labelled anew is
measured again, and a larger limit or more images only add rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Protocol

import numpy as np

from vitreous.data.dataset import Dataset
from vitreous.evaluation.loading import EvaluationBatch, View, batches
from vitreous.evaluation.rows import UNREADABLE, RowStore
from vitreous.fingerprint import digest
from vitreous.models import Classifier, Preprocessing
from vitreous.models.fingerprint import model_fingerprint
from vitreous.models.modes import evaluation_mode
from vitreous.precision import Precision, autocast
from vitreous.processes import ALONE, Processes
from vitreous.progress import ProgressBar
from vitreous.results import Record


class Evaluator(Protocol):
    """What is measured of each item, and what is said of all of them.

    Examples:
        >>> from vitreous.evaluation.rows import item_type
        >>> class Brightness:
        ...     name = "brightness"
        ...     def settings(self) -> object:
        ...         return {}
        ...     def row_type(self) -> np.dtype:
        ...         return item_type([("mean", "f4")])
        ...     def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        ...         rows = self.unread(len(batch))
        ...         rows["mean"] = batch.images.mean((1, 2, 3)).cpu()
        ...         return rows
        ...     def unread(self, count: int) -> np.ndarray:
        ...         return np.zeros(count, self.row_type())
        ...     def records(self, rows: np.ndarray) -> list[Record]:
        ...         mean = float(rows["mean"].mean())
        ...         return [Record("brightness", "photos", "mean", mean, len(rows))]
        >>> Brightness().unread(2)["mean"].tolist()
        [0.0, 0.0]
    """

    @property
    def name(self) -> str:
        """What rows and progress bars are called."""
        ...

    def settings(self) -> object:
        """Everything that rows depend on beside the model, the item and its view, as plain values.

        See `vitreous.fingerprint.digest` for what is plain.
        """
        ...

    def row_type(self) -> np.dtype:
        """Type of a row, made by `vitreous.evaluation.rows.item_type`."""
        ...

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Measure a batch (images are floats on the model's device): B rows.

        `key` and `index` are filled in by the loop. What is random follows from `batch.seeds`.
        """
        ...

    def unread(self, count: int) -> np.ndarray:
        """Rows of items that could not be read."""
        ...

    def records(self, rows: np.ndarray) -> list[Record]:
        """Say what came of a dataset."""
        ...


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """How a dataset is streamed.

    Attributes:
        batch_size: Images in a forward pass.
        workers: Processes that read images beside the model.
        precision: Type of the forward pass.
        preprocessing: Instead of the model's own.
        limit: At most this many items of a dataset, evenly spread; 0 means all.
        progress: Show a progress bar.
        restart: Delete the rows that are there and measure everything again.
        check_content: Tell whether a file changed by its content, not by its size and time; rows
            that were measured without it do not count.

    Examples:
        >>> StreamSettings(limit=3).indices(range(101)).tolist()
        [0, 50, 100]
    """

    batch_size: int = 64
    workers: int = 0
    precision: Precision = "float32"
    preprocessing: Preprocessing | None = None
    limit: int = 0
    progress: bool = True
    restart: bool = False
    check_content: bool = False

    def indices(self, dataset: Sized) -> np.ndarray:
        """Which items of a dataset are measured."""
        count = len(dataset)
        if not self.limit or self.limit >= count:
            return np.arange(count)
        return np.unique(np.linspace(0, count - 1, self.limit).astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        rows: One for each chosen item, sorted by index.
        reasons: Why items could not be read: index → reason.
        folder: Where the rows are.
        view: How items became inputs.
    """

    rows: np.ndarray
    reasons: dict[int, str]
    folder: Path
    view: View


def stream(
    classifier: Classifier,
    dataset: Dataset,
    evaluator: Evaluator,
    folder: Path,
    *,
    view: View | None = None,
    streaming: StreamSettings | None = None,
    processes: Processes = ALONE,
    model: str = "",
    again: np.ndarray | None = None,
) -> Measured:
    """Measure a dataset, keeping rows on disk: a killed call that is repeated goes on.

    Items that could not be read are tried again each time.

    Args:
        classifier: The model; it is run in evaluation mode and left in the mode it was in.
        dataset: The items.
        evaluator: What is measured.
        folder: Rows go to a folder in it, named by the evaluator and the fingerprint.
        view: How items become inputs; the model's own by default.
        streaming: Batch size, workers, precision, limit, restart.
        processes: Which of several processes this is; each takes its share of what is left, and
            all return the whole.
        model: `model_fingerprint` of the model, where the caller knows it.
        again: Indices of items that are measured although they have rows.

    Returns:
        The rows of all chosen items.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.evaluators.accuracy import Accuracy
        >>> from vitreous.evaluation.test_sets.base import TestSet, single
        >>> scenes = Generated(size=32, train=4, validation=1).load(0).train
        >>> evaluator = Accuracy(TestSet("scenes", scenes, scenes.labels, single(8)))
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> stream(model, scenes, evaluator, Path(tempfile.mkdtemp())).rows["index"].tolist()
        [0, 1, 2, 3]
    """
    streaming = streaming or StreamSettings()
    view = view or View(streaming.preprocessing or classifier.preprocessing)
    model = model or model_fingerprint(classifier)
    store = _store(evaluator, folder, view, streaming, model, processes)
    chosen = streaming.indices(dataset)
    keys = dataset.keys(chosen, content=streaming.check_content)
    if streaming.restart and processes.main:
        store.clear()
    processes.wait()
    repeated = np.isin(chosen, [] if again is None else again)
    left = chosen[repeated | ~np.isin(keys, done_keys(store), kind="sort")]
    processes.wait()
    share = left[processes.rank :: processes.count]
    key_of = dict(zip(chosen.tolist(), keys.tolist()))
    parts = batches(
        dataset, view, share, batch_size=streaming.batch_size, workers=streaming.workers
    )
    quiet = not streaming.progress
    with ProgressBar(
        total=len(share), desc=evaluator.name, unit="im", leave=False, quiet=quiet
    ) as bar:
        for rows, reasons in measure(classifier, evaluator, parts, streaming.precision):
            rows["key"] = [key_of[i] for i in rows["index"].tolist()]
            store.append(rows, {key_of[i]: reason for i, reason in reasons.items()})
            bar.update(len(rows))
    processes.wait()
    return _collect(store, chosen, keys, view)


def measure(
    classifier: Classifier,
    evaluator: Evaluator,
    parts: Iterable[EvaluationBatch],
    precision: Precision = "float32",
) -> Iterator[tuple[np.ndarray, dict[int, str]]]:
    """Measure batches; what is yielded is forgotten here, so that memory does not grow.

    Args:
        classifier: The model; it is run in evaluation mode and left in the mode it was in.
        evaluator: What is measured.
        parts: Batches from the disk or from memory.
        precision: Type of the forward pass.

    Yields:
        Rows of a batch, unreadable items included, and the reasons of those by index.
    """
    device = classifier.device
    with evaluation_mode(classifier):
        for batch in parts:
            rows = []
            if len(batch):
                with autocast(device, precision):
                    rows.append(evaluator.rows(classifier, batch.on(device)))
                rows[0]["index"] = batch.indices.numpy()
            if batch.unreadable:
                rows.append(evaluator.unread(len(batch.unreadable)))
                rows[-1]["index"] = list(batch.unreadable)
                rows[-1]["status"] = UNREADABLE
            yield np.concatenate(rows), batch.unreadable


def done_keys(store: RowStore) -> np.ndarray:
    """Keys of the items that need not be measured again: all that could be read."""
    rows = store.read()
    return rows["key"][rows["status"] != UNREADABLE]


def _store(
    evaluator: Evaluator,
    folder: Path,
    view: View,
    streaming: StreamSettings,
    model: str,
    processes: Processes,
) -> RowStore:
    kind = evaluator.row_type()
    header = {
        "evaluator": type(evaluator).__name__,
        "name": evaluator.name,
        "settings": evaluator.settings(),
        "row": repr(kind.descr),
        "model": model,
        "precision": streaming.precision,
        "view": view.described(),
    }
    place = folder / f"{evaluator.name.replace('/', '-')}-{digest(header)}"
    return RowStore(place, header, kind, processes.rank)


def _collect(store: RowStore, chosen: np.ndarray, keys: np.ndarray, view: View) -> Measured:
    """Rows of the chosen items under their present numbers."""
    stored = store.read()
    places = np.searchsorted(stored["key"], keys)
    known = places < len(stored)
    known[known] = stored["key"][places[known]] == keys[known]
    rows = stored[places[known]]
    rows["index"] = chosen[known]
    reasons = store.reasons()
    bad = zip(chosen[known].tolist(), rows["key"].tolist(), rows["status"].tolist())
    named = {i: reasons.get(k, "") for i, k, status in bad if status == UNREADABLE}
    return Measured(rows, named, store.folder, view)
