"""The measuring loop: nothing is measured twice, whatever is interrupted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import as_processes
from noise import COUNT, Noise, noise
from vitreous.data.dataset import Dataset
from vitreous.evaluation.loading import EvaluationBatch, View
from vitreous.evaluation.rows import RowStore, item_type
from vitreous.evaluation.stream import Measured, StreamSettings, stream
from vitreous.models import Classifier, Preprocessing
from vitreous.processes import ALONE, Processes
from vitreous.results import Record

QUIET = StreamSettings(batch_size=4, progress=False)


class Mean:
    """The mean of each image; counts what it is shown."""

    name = "mean"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.limit = 10**9

    def settings(self) -> dict[str, Any]:
        return {}

    def row_type(self) -> np.dtype:
        return item_type([("mean", "f4")])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        assert not classifier.training
        if len(self.seen) >= self.limit:
            raise KeyboardInterrupt
        self.seen += batch.indices.tolist()
        rows = self.unread(len(batch))
        rows["mean"] = batch.images.mean((1, 2, 3))
        return rows

    def unread(self, count: int) -> np.ndarray:
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        return []


CLASSIFIER = Classifier(torch.nn.Identity(), preprocessing=Preprocessing((32, 32), 1.0)).eval()
TWO = dataclasses.replace(QUIET, batch_size=2)


def measure_means(
    folder: Path,
    dataset: Dataset | None = None,
    evaluator: Mean | None = None,
    streaming: StreamSettings = TWO,
    processes: Processes = ALONE,
) -> Measured:
    return stream(
        CLASSIFIER,
        dataset or noise(),
        evaluator or Mean(),
        folder,
        streaming=streaming,
        processes=processes,
    )


def test_killed_and_resumed_equals_uninterrupted_also_after_half_a_row(tmp_path: Path) -> None:
    whole = measure_means(tmp_path / "a")
    killed = Mean()
    killed.limit = 4
    with pytest.raises(KeyboardInterrupt):
        measure_means(tmp_path / "b", evaluator=killed)
    (file,) = (tmp_path / "b").rglob("rows-0.bin")
    with file.open("ab") as opened:
        opened.write(b"\x07\x00\x01")
    rest = Mean()
    again = measure_means(tmp_path / "b", evaluator=rest)
    assert rest.seen == [4, 5] and np.array_equal(again.rows, whole.rows)


def test_two_processes_are_one(tmp_path: Path) -> None:
    whole = measure_means(tmp_path / "a").rows
    evaluators = [Mean(), Mean()]

    def rank(processes: Processes) -> np.ndarray:
        evaluator = evaluators[processes.rank]
        return measure_means(tmp_path / "b", evaluator=evaluator, processes=processes).rows

    assert all(np.array_equal(rows, whole) for rows in as_processes(2, rank))
    assert sorted(evaluators[0].seen + evaluators[1].seen) == list(range(COUNT))
    assert evaluators[0].seen and evaluators[1].seen


def test_only_the_image_that_changed_is_measured_again(tmp_path: Path) -> None:
    measure_means(tmp_path)
    evaluator = Mean()
    changed = noise(images=Noise((0, 1, 99, 3, 4, 5), (0, 0, 1, 0, 0, 0)))
    rows = measure_means(tmp_path, changed, evaluator).rows
    assert evaluator.seen == [2]
    assert np.array_equal(rows["mean"], measure_means(tmp_path / "fresh", changed).rows["mean"])


def test_rows_follow_their_images_to_other_numbers(tmp_path: Path) -> None:
    measure_means(tmp_path)
    evaluator, moved = Mean(), noise().select([5, 0, 3])
    rows = measure_means(tmp_path, moved, evaluator).rows
    assert evaluator.seen == [] and rows["index"].tolist() == [0, 1, 2]
    assert np.array_equal(rows["mean"], measure_means(tmp_path / "fresh", moved).rows["mean"])


def test_a_larger_limit_only_adds_rows(tmp_path: Path) -> None:
    few, all_of_them = Mean(), Mean()
    measure_means(tmp_path, evaluator=few, streaming=dataclasses.replace(TWO, limit=3))
    measured = measure_means(tmp_path, evaluator=all_of_them)
    assert len(measured.rows) == COUNT and not set(few.seen) & set(all_of_them.seen)


def test_unreadable_images_are_tried_each_time_and_named(tmp_path: Path) -> None:
    broken = noise(images=Noise(broken=(1, 4)))
    for _ in range(2):
        measured = measure_means(tmp_path, broken)
        assert measured.reasons == {1: "image 1 is broken", 4: "image 4 is broken"}
        assert measured.rows["status"].tolist() == [0, 1, 0, 0, 1, 0]
    evaluator = Mean()
    repaired = measure_means(tmp_path, noise(images=Noise(broken=(4,))), evaluator)
    assert evaluator.seen == [1] and list(repaired.reasons) == [4]
    assert np.array_equal(measure_means(tmp_path).rows, measure_means(tmp_path / "fresh").rows)


def test_the_content_decides_where_it_is_asked_for(tmp_path: Path) -> None:
    same_time = noise(images=Noise((0, 1, 99, 3, 4, 5)))
    by_content = dataclasses.replace(TWO, check_content=True)
    measure_means(tmp_path, streaming=by_content)
    evaluator = Mean()
    measure_means(tmp_path, same_time, evaluator, by_content)
    assert evaluator.seen == [2]
    touched = Mean()
    later = noise(images=Noise(times=(9,) * COUNT))
    measure_means(tmp_path, later, touched, by_content)
    assert touched.seen == []


def test_a_reason_that_was_cut_short_does_not_hide_the_next(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "rows", {}, item_type([]))
    store.append(np.zeros(1, store.kind), {1: "first"})
    with (tmp_path / "rows" / "unreadable-0.jsonl").open("ab") as opened:
        opened.write(b'[2, "cut')
    store.append(np.zeros(1, store.kind), {3: "third"})
    assert store.reasons() == {1: "first", 3: "third"}


def test_what_a_view_shows_is_part_of_the_key(tmp_path: Path) -> None:
    places = {
        stream(CLASSIFIER, noise(), Mean(), tmp_path, view=view, streaming=TWO).folder
        for view in (
            View(CLASSIFIER.preprocessing),
            View(CLASSIFIER.preprocessing, "squash"),
            View(CLASSIFIER.preprocessing, masks=True),
            View(CLASSIFIER.preprocessing, border=1),
        )
    }
    assert len(places) == 4
