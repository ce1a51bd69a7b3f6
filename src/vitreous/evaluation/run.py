"""Evaluate a classifier by a suite: everything that is there, what is missing named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vitreous.data.dataset import Dataset
from vitreous.errors import VitreousError
from vitreous.evaluation.background_gap import background_gaps
from vitreous.evaluation.comparison import comparison_records
from vitreous.evaluation.effective import effective_records
from vitreous.evaluation.evaluators.accuracy import predictions
from vitreous.evaluation.evaluators.corruption import (
    Corruption,
    corruption_records,
    corruption_table,
    perturbation_records,
)
from vitreous.evaluation.evaluators.explanation import (
    Explained,
    ExplanationSettings,
    measure_explanations,
)
from vitreous.evaluation.evaluators.explanation_records import AREAS
from vitreous.evaluation.evaluators.rotation import Rotation, rotation_records
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import accuracy_records, entry_of, shape_bias_records
from vitreous.evaluation.samples import write_samples
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import MaskedSettings, Suite, source_of
from vitreous.evaluation.tables import write_tables
from vitreous.evaluation.test_sets import TestSet
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.models.heads import require_head
from vitreous.processes import ALONE, Processes
from vitreous.results import Record


@dataclasses.dataclass
class Evaluation:
    """What came of a suite.

    Attributes:
        records: The numbers.
        entries: (set, place) → its entry of `Results.extra["evaluation"]`.
        problems: What was not measured, and why.
        left_out: What readers of sets passed over: `SET: COUNT KIND (NAMES)`.
        predicted: (set, place, part, change) → answers, for comparisons.
        model: Fingerprint of the model.
        tables: Folders of the tables of predictions.
        settings: What every record says: the preprocessing and the precision where they are not
            the usual ones.

    Examples:
        >>> from vitreous.results import accuracy_record
        >>> done = Evaluation()
        >>> done.add([accuracy_record("clean", "photos", "top1", 90, 100)], place="/data/photos")
        >>> done.records[0].value, done.records[0].source
        (0.9, '/data/photos')
    """

    records: list[Record] = dataclasses.field(default_factory=list)
    entries: dict[tuple[str, str], dict[str, object]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    predicted: dict[str, Predictions] = dataclasses.field(default_factory=dict)
    model: str = ""
    tables: list[Path] = dataclasses.field(default_factory=list)
    settings: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(
        self, records: Iterable[Record], place: str, reading: Mapping[str, str] | None = None
    ) -> None:
        """Add records of a set that lies at a place; `reading` is how its labels were read."""
        more = {**(reading or {}), **self.settings}
        self.records += [
            dataclasses.replace(r, source=place, settings={**r.settings, **more}) for r in records
        ]

    def extra(self) -> dict[str, object]:
        """The entries, for `Results.add_extra`: each says what it belongs to."""
        names = [name for name, _ in self.entries]
        told = {}
        for (name, place), entry in self.entries.items():
            own = entry.get("settings")
            settings = {**(own if isinstance(own, dict) else {}), **self.settings}
            owner = {"name": name, "place": place, "fingerprint": self.model, "settings": settings}
            told[f"{name} ({place})" if names.count(name) > 1 else name] = {**entry, **owner}
        return {"evaluation": told}

    def tell_left_out(self, name: str, datasets: Iterable[Dataset]) -> None:
        """Add what the readers of a set, or of its parts, passed over."""
        lines = (f"{name}: {passed}" for dataset in datasets for passed in dataset.left_out)
        self.left_out = list(dict.fromkeys([*self.left_out, *lines]))


@dataclasses.dataclass(frozen=True)
class EvaluationFolders:
    """Where things are and go.

    Attributes:
        root: Folder below which sets are looked for.
        out: Folder of `results.json`, rows and images.
        samples: How many best and worst images of a set are written.

    Examples:
        >>> folders = EvaluationFolders(root=Path("data"), out=Path("runs/x"), samples=0)
        >>> folders.out.name
        'x'
    """

    root: Path | None
    out: Path
    samples: int = 6


def evaluate(
    classifier: Classifier,
    suite: Suite,
    folders: EvaluationFolders,
    *,
    sets: Sequence[TestSet] = (),
    streaming: StreamSettings | None = None,
    explaining: ExplanationSettings | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Evaluate a classifier.

    A set that is missing, has a wrong layout or does not fit the model is reported among the
    problems; the others are measured.

    Args:
        classifier: The model.
        suite: What to measure.
        folders: Where sets are, and where rows and images go.
        sets: More test sets, read already.
        streaming: How images are streamed.
        explaining: How explanations are measured; methods come from the suite.
        processes: Which of several processes this is; images are written by the first.

    Raises:
        VitreousError: If nothing could be measured; the message is the first problem.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.test_sets.base import single
        >>> scenes = Generated(size=32, train=4, validation=1).load(0).train
        >>> photos = TestSet("scenes", scenes, scenes.labels, single(8), suite="clean")
        >>> settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> folders = EvaluationFolders(None, Path(tempfile.mkdtemp()), samples=0)
        >>> done = evaluate(model, Suite(rotation=(90.0,)), folders, sets=[photos])
        >>> [(r.suite, r.n) for r in done.records if r.metric == "top1"]
        [('clean', 4), ('rotation', 4), ('rotation', 4)]
    """
    job = _Job(
        classifier,
        folders,
        streaming or StreamSettings(),
        dataclasses.replace(
            explaining or ExplanationSettings(),
            methods=suite.methods,
            removal=suite.removal,
            benchmark=suite.benchmark,
        ),
        processes,
        Evaluation(model=model_fingerprint(classifier), settings=_named(streaming)),
    )
    groups = _read_sets(suite, folders, job.done, sets, classifier)
    some_clean = any(parts[0].suite == "clean" for parts in groups)
    for parts in groups:
        whole = len(parts) == 1 and (parts[0].suite == "clean" or not some_clean)
        job.measure(parts, list(suite.all_perturbations()) if whole else [])
    _effective(job.done)
    for records, place, reading in background_gaps(job.done.predicted.values()):
        job.done.add(records, place, reading)
    explained = job.explain(suite)
    if processes.main:
        for answers in job.done.predicted.values():
            masked = None if answers.condition else explained.get(_key(answers.test_set))
            folder = write_tables(classifier, answers, masked.shares() if masked else None)
            if folder is not None and not answers.condition:
                job.done.tables.append(folder)
    if not job.done.records:
        raise VitreousError(job.done.problems[0] if job.done.problems else "the suite is empty")
    return job.done


@dataclasses.dataclass(frozen=True)
class _Job:
    """One model's evaluation, as it goes on."""

    classifier: Classifier
    folders: EvaluationFolders
    streaming: StreamSettings
    explaining: ExplanationSettings
    processes: Processes
    done: Evaluation

    def measure(self, parts: list[TestSet], perturbations: list[Rotation | Corruption]) -> None:
        """Measure the parts of a set, and its images after each perturbation."""
        try:
            require_head(self.classifier)
            for part in parts:
                part.check(self.classifier.num_classes or part.num_classes, self.classifier.name)
            answers = [self.answer(part) for part in parts]
            changed = [self.answer(parts[0], p) for p in perturbations]
        except VitreousError as error:
            self.done.problems.append(str(error))
            return
        self.collect(answers, changed)

    def answer(
        self, test_set: TestSet, perturbation: Rotation | Corruption | None = None
    ) -> Predictions:
        """Predict one part."""
        answers = predictions(
            self.classifier,
            test_set,
            self.folders.out / "predictions",
            streaming=self.streaming,
            perturbation=perturbation,
            processes=self.processes,
            model=self.done.model,
        )
        key = [*_key(test_set), test_set.settings, answers.condition]
        self.done.predicted[repr(key)] = answers
        return answers

    def collect(self, answers: list[Predictions], changed: list[Predictions]) -> None:
        """Turn answers to records and an entry."""
        first, done = answers[0], self.done
        entry, place, reading = entry_of(first), first.test_set.place, first.test_set.reading
        done.tell_left_out(first.test_set.name, (part.dataset for part in answers))
        for part in answers:
            done.add(accuracy_records(part), place, reading)
        if "corruption" in first.test_set.settings:
            done.add(corruption_records(answers), place, reading)
            entry["corruptions"] = corruption_table(answers)
        turned = [p for p in changed if "angle" in p.condition]
        perturbed = [p for p in changed if "corruption" in p.condition]
        # A disc that is not turned is what noise and blur of discs are compared with.
        base = next((p for p in turned if p.condition["angle"] == 0), first)
        for records, more in (
            shape_bias_records(first),
            rotation_records(first, turned),
            perturbation_records(base, perturbed),
        ):
            done.add(records, place, reading)
            entry.update(more)
        if self.folders.samples:
            entry.update(
                write_samples(
                    self.classifier,
                    first,
                    self.folders.out,
                    self.folders.samples,
                    self.processes,
                )
            )
        done.entries[_key(first.test_set)] = entry

    def explain(self, suite: Suite) -> dict[tuple[str, str], Explained]:
        """Measure explanations on the masked sets of a suite; returns them by name and place."""
        explained = {}
        for wanted in suite.masked:
            path = wanted.find(self.folders.root)
            if path is None:
                self.done.problems.append(_missing(wanted.name, wanted.path, self.folders.root))
                continue
            try:
                dataset = wanted.read(path, tuple(self.classifier.class_names))
                key = wanted.name, str(path.resolve())
                explained[key] = self._explain(dataset, wanted, *key)
            except VitreousError as error:
                self.done.problems.append(f"{wanted.name}: {error}")
        return explained

    def _explain(
        self, dataset: Dataset, wanted: MaskedSettings, name: str, place: str
    ) -> Explained:
        explained = measure_explanations(
            self.classifier,
            dataset,
            name,
            self.folders.out / "predictions",
            explaining=self.explaining,
            streaming=dataclasses.replace(
                self.streaming, batch_size=max(1, self.streaming.batch_size // 4)
            ),
            processes=self.processes,
            model=self.done.model,
        )
        reading = wanted.reading()
        unlabelled = {k: v for k, v in reading.items() if k != "class_map"}
        for record in explained.records():
            # Only removal looks at labels.
            self.done.add([record], place, reading if record.metric in AREAS else unlabelled)
        self.done.tell_left_out(name, [dataset])
        entry, before = explained.entry(reading), self.done.entries.get((name, place), {})
        curves = {k: entry[k] for k in ("explanations", "unsupported") if k in entry}
        self.done.entries[name, place] = {**entry, **before, **curves}
        left_out = explained.unsupported.items()
        self.done.problems += [f"{m} was left out: {why}" for m, why in left_out]
        return explained


def _named(streaming: StreamSettings | None) -> dict[str, str]:
    """Settings that records name where they are not the usual ones: preprocessing, precision."""
    named, streaming = {}, streaming or StreamSettings()
    if (view := streaming.preprocessing) is not None:
        shape = f"{view.size[0]}×{view.size[1]}, {view.crop_ratio:g}, {view.interpolation}"
        decoding = {"exact": "", "reduced": ", reduced decoding", "whole": ", whole image resized"}
        named["preprocessing"] = f"{shape}, {view.crop_mode}{decoding[view.decoding]}"
    if streaming.precision != "float32":
        named["precision"] = streaming.precision
    return named


def _missing(name: str, path: Path | None, root: Path | None) -> str:
    return f"{name} is missing ({path or root or 'no --root'}); it comes from {source_of(name)}"


def _read_sets(
    suite: Suite,
    folders: EvaluationFolders,
    done: Evaluation,
    sets: Sequence[TestSet],
    classifier: Classifier,
) -> list[list[TestSet]]:
    """Sets with their parts; versions of the same images are sets of their own."""
    known = {"class_names": tuple(classifier.class_names), "num_classes": classifier.num_classes}
    groups = [[test_set] for test_set in sets]
    for wanted in suite.sets:
        path = wanted.find(folders.root)
        if path is None:
            done.problems.append(_missing(wanted.name, wanted.path, folders.root))
            continue
        try:
            parts = [
                part if part.version else dataclasses.replace(part, place=str(path.resolve()))
                for part in wanted.read(path, **known)
            ]
            groups += [[part] for part in parts] if parts[0].version else [parts]
        except VitreousError as error:
            done.problems.append(str(error))
    return groups


def _effective(done: Evaluation) -> None:
    plain = [f for f in done.predicted.values() if not f.condition]
    home = next((f for f in plain if f.test_set.name == "imagenet-val"), None)
    if home is None:
        return
    for shift in plain:
        records, entries = effective_records(home, [shift])
        done.add(records, shift.test_set.place, shift.test_set.reading)
        for entry in entries.values():
            done.entries[_key(shift.test_set)]["effective_robustness"] = entry


def compare(first: Evaluation, second: Evaluation, against: str) -> list[Record]:
    """Compare two models on every set that both have answered.

    Examples:
        >>> import tempfile, vitreous
        >>> from vitreous.data.readers.generated import Generated
        >>> from vitreous.evaluation.test_sets.base import single
        >>> scenes = Generated(size=32, train=4, validation=1).load(0).train
        >>> sets = [TestSet("scenes", scenes, scenes.labels, single(8), suite="clean")]
        >>> def measured():
        ...     settings = {"pretrained": False, "num_classes": 8, "image_size": 32, "depth": 1}
        ...     model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        ...     folders = EvaluationFolders(None, Path(tempfile.mkdtemp()), samples=0)
        ...     return evaluate(model, Suite(), folders, sets=sets)
        >>> [record.metric for record in compare(measured(), measured(), against="before")]
        ['top1_difference', 'agreement', 'error_consistency']
    """
    compared = Evaluation(settings=second.settings)
    for key, answers in second.predicted.items():
        if key in first.predicted:
            records = comparison_records(first.predicted[key], answers, against)
            compared.add(records, answers.test_set.place, answers.test_set.reading)
    return compared.records


def _key(test_set: TestSet) -> tuple[str, str]:
    return test_set.name, test_set.place
