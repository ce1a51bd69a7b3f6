"""What one model of the rotation × adversary study can do, as plain values for a small file.

Each stage is kept as soon as it is measured, so that a run that was stopped goes on with the next:
answers (which images are right as they are, turned, and under each corruption), attacks, macaque
V4 neuron by neuron, the dissimilarities of the 92-image set layer by layer, and answers to the
objects on the background of another class.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vitreous import Classifier
from vitreous.attacks import PGD
from vitreous.attacks.sequence import Member, Sequence
from vitreous.brain.activations import Extraction, extract
from vitreous.brain.measure import Measure
from vitreous.brain.rdm_files import read_rdms, write_mat_images
from vitreous.brain.readers import read_macaque
from vitreous.brain.recordings import Recording
from vitreous.brain.scoring import choose_layers, score_layers, score_regions
from vitreous.brain.similarity import rdm, similarity_of_subset
from vitreous.brain.stimuli import read_stimuli
from vitreous.evaluation.evaluators.accuracy import predictions
from vitreous.evaluation.evaluators.corruption import Corruption, paper_corruptions
from vitreous.evaluation.evaluators.robustness import ROBUST, Robustness, robustness
from vitreous.evaluation.evaluators.rotation import Rotation
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.io import write_json
from vitreous.precision import Precision
from vitreous.statistics import jackknife_interval

CHOSEN_ON = "201025"
REPORTED_ON = ("210325", "210224", "190923", "210621")
EPSILON = 2 / 255
SEVERITY = 3
TURNS = (90.0, 180.0, 270.0)
STAGES = ("answers", "attacks", "v4", "it", "shifted")
IT = {"human IT": "hIT", "monkey IT": "monkeyIT"}
Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        images: Test images, as they are and turned.
        corrupted: Of these, how many under each corruption.
        attacked: And how many under attack.
        recorded: Images of each session of macaque V4, evenly spread; 0 means all.
        members: Attacks of the sequence, with `steps` and `queries` each.
    """

    images: int
    corrupted: int
    attacked: int
    recorded: int
    members: tuple[Member, ...]
    steps: int
    queries: int
    precision: Precision


@dataclasses.dataclass(frozen=True)
class Measurer:
    """Where data lie, and how much of them is used.

    Attributes:
        tests: Folder of the test images, a folder a class.
        others: The same with the background of another class.
        macaque: Folder of the macaque V4 sessions.
        rsa: Folder of the 92-image set.
        layers: Names of layers among which one is chosen.
        work: Folder for rows and activations; a model's part is deleted when it is measured.
        sizes: How much is measured.
    """

    tests: Path
    others: Path
    macaque: Path
    rsa: Path
    layers: tuple[str, ...]
    work: Path
    sizes: Sizes

    def __call__(
        self, load: Callable[[], Classifier], file: Path, asked: Iterable[str] = STAGES
    ) -> None:
        """Measure what the file does not have yet; the model is loaded only if need be."""
        done: Values = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        stages = dict(zip(STAGES, (self.answers, self.attacks, self.v4, self.it, self.shifted)))
        missing = [name for name in asked if name not in done]
        if not missing:
            return
        classifier = load().eval()
        folder = self.work / file.stem
        for name in missing:
            done[name] = stages[name](classifier, folder)
            write_json(file, done)
        shutil.rmtree(folder, ignore_errors=True)

    def streaming(self, limit: int, batch_size: int = 50) -> StreamSettings:
        """How images are read."""
        precision = self.sizes.precision
        return StreamSettings(batch_size, precision=precision, limit=limit, progress=False)

    def test_set(self, classifier: Classifier, folder: Path) -> TestSet:
        """The images of a folder, of the model's classes."""
        names = tuple(classifier.class_names)
        (found,) = read_set("folder", folder, class_names=names, num_classes=len(names))
        return found

    def answers(self, classifier: Classifier, folder: Path) -> Values:
        """Which images are right: as they are, turned, corrupted."""
        images = self.test_set(classifier, self.tests)

        def right(limit: int, change: Rotation | Corruption | None = None) -> str:
            told = predictions(
                classifier,
                images,
                folder / "rows",
                streaming=self.streaming(limit),
                perturbation=change,
            )
            return pack(told.correct())

        few = self.sizes.corrupted
        return {
            "clean": right(self.sizes.images),
            "turned": {f"{a:.0f}": right(self.sizes.images, Rotation(a)) for a in TURNS},
            "clean, few": right(few),
            "corrupted": {k: right(few, Corruption(k, SEVERITY)) for k in paper_corruptions()},
        }

    def shifted(self, classifier: Classifier, folder: Path) -> Values:
        """Which images are right on the background of another class."""
        images, streaming = self.test_set(classifier, self.others), self.streaming(0)
        told = predictions(classifier, images, folder / "rows", streaming=streaming)
        return {"other background": pack(told.correct())}

    def attacks(self, classifier: Classifier, folder: Path) -> Values:
        """Which images are right before and after each attack, and what was found about it."""
        sizes, dataset = self.sizes, self.test_set(classifier, self.tests).class_labels()
        attacks = {
            "PGD-50": PGD(epsilon=EPSILON, steps=50),
            "sequence": Sequence(
                epsilon=EPSILON, members=sizes.members, steps=sizes.steps, queries=sizes.queries
            ),
        }
        told: Values = {}
        for name, attack in attacks.items():
            evaluator = Robustness("ten classes", attack, [EPSILON])
            streaming = self.streaming(sizes.attacked, 16)
            done = robustness(classifier, dataset, evaluator, folder / "rows", streaming=streaming)
            told["before"] = pack(done.rows["outcome"] != 0)
            told[name] = pack(done.rows["outcome"] == ROBUST)
            told[f"{name}, findings"] = done.warnings()
        return told

    def v4(self, classifier: Classifier, folder: Path) -> Values:
        """Correlation of each neuron, in the layer chosen on another session."""
        taken = Extraction(batch_size=50, precision=self.sizes.precision)
        measure, cache = Measure(threads=1), folder / "cache"
        first = self.session(CHOSEN_ON)
        scores = score_layers(
            classifier, first, self.layers, cache, measure=measure, extraction=taken
        )
        chosen = choose_layers(scores)
        told: Values = {
            "layer": chosen["V4"],
            "by layer": {row.layer: round(row.score.score, 4) for row in scores["V4"]},
            "sessions": {},
        }
        for name in REPORTED_ON:
            session = self.session(name)
            (row,) = score_regions(
                classifier, session, chosen, cache, measure=measure, extraction=taken
            )
            told["sessions"][name] = {"r": rounded(np.nanmean(row.score.raw, axis=0))}
            if row.ceiling is not None:
                told["sessions"][name]["ceiling"] = rounded(np.nanmean(row.ceiling.raw, axis=0))
        shutil.rmtree(cache, ignore_errors=True)
        return told

    def session(self, name: str) -> Recording:
        """A session, or as many of its images as are used."""
        whole = read_macaque(self.macaque, name)
        few = StreamSettings(limit=self.sizes.recorded).indices(whole.names)
        return dataclasses.replace(whole, assembly=whole.assembly.isel(presentation=few))

    def it(self, classifier: Classifier, folder: Path) -> Values:
        """Likeness of each layer to human and monkey IT, and without each twentieth of images."""
        write_mat_images(
            self.rsa / "Kriegeskorte_Neuron2008_supplementalData.mat", folder / "pictures92"
        )
        taken = Extraction(batch_size=46, precision=self.sizes.precision)
        stimuli = read_stimuli(folder / "pictures92")
        features = extract(classifier, stimuli, self.layers, folder / "cache", taken)
        known = read_rdms([self.rsa / "92_brainRDMs.mat", self.rsa / "92_modelRDMs.mat"])
        told: Values = {target: {} for target in IT}
        for layer, values in features.items():
            own = rdm(np.asarray(values))
            for target, key in IT.items():
                likeness, left_out = similarity_of_subset(own, known[key]), []
                value = likeness(np.arange(len(own)))
                jackknife_interval(noted(likeness, left_out), len(own), value)
                told[target][layer] = [round(v, 5) for v in (value, *left_out)]
        return told


def noted(
    measure: Callable[[np.ndarray], float], told: list[float]
) -> Callable[[np.ndarray], float]:
    """The same measure, which also appends what it gives to a list."""

    def on(index: np.ndarray) -> float:
        told.append(measure(index))
        return told[-1]

    return on


def rounded(values: np.ndarray) -> list[float]:
    """Four digits, as JSON holds them."""
    return np.round(values, 4).tolist()


def pack(right: np.ndarray) -> str:
    """(N,) bool as `N:hexadecimal digits`."""
    return f"{len(right)}:{np.packbits(right).tobytes().hex()}"


def unpack(text: str) -> np.ndarray:
    """What `pack` packed.

    Examples:
        >>> unpack(pack(np.array([True, False, True]))).tolist()
        [True, False, True]
    """
    count, digits = text.split(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[: int(count)].astype(bool)
