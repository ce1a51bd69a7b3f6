"""Human trials of model-vs-human (Geirhos et al. 2021), and a network's answers to its images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from vitreous.brain.activations import inference_on, model_inputs
from vitreous.brain.cues import cues
from vitreous.brain.readers import read_table
from vitreous.brain.stimuli import Stimuli
from vitreous.data.class_maps import class_map
from vitreous.errors import VitreousError, nearest
from vitreous.models import Classifier
from vitreous.models.class_words import imagenet_index
from vitreous.progress import ProgressBar

COLUMNS = ("subj", "object_response", "category", "condition", "imagename")


@dataclasses.dataclass(frozen=True)
class HumanTrials:
    """Answers of several people to the same images.

    Attributes:
        names: Image ids: the file name without trial, experiment and subject.
        categories: The true category of each image.
        conditions: The condition of each image.
        subjects: The people.
        correct: subjects × images: 1 right, 0 wrong, NaN not seen.
        answers: subjects × images: the category that was answered, empty where not seen.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    conditions: tuple[str, ...]
    subjects: tuple[str, ...]
    correct: np.ndarray
    answers: np.ndarray

    def among(self, categories: Collection[str]) -> HumanTrials:
        """The images whose true category is one of these."""
        kept = [i for i, truth in enumerate(self.categories) if truth in set(categories)]
        return HumanTrials(
            tuple(self.names[i] for i in kept),
            tuple(self.categories[i] for i in kept),
            tuple(self.conditions[i] for i in kept),
            self.subjects,
            self.correct[:, kept],
            self.answers[:, kept],
        )


def image_id(name: str) -> str:
    """Reduce `0001_cl_s01_cr_bear_40_n02134084_5274.png` to what is the same for every subject.

    An image that is called by its cues (`0002_s5n_s01_0_bird_00_bird2-clock3.png`) keeps these.
    """
    parts = Path(name).stem.split("_")
    if cues(parts[-1]) is not None:
        return parts[-1]
    return "_".join(parts[3:]) if len(parts) > 4 else Path(name).stem


def read_human_trials(folder: str | os.PathLike[str]) -> HumanTrials:
    """Read the CSV files of one experiment, one a subject (and session).

    Raises:
        VitreousError: If there are none, columns are missing, or files contradict each other.
    """
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        raise VitreousError(f"no CSV files of human trials in {folder}")
    answers: dict[str, dict[str, str]] = {}
    about: dict[str, tuple[str, str]] = {}
    for file in files:
        table = {name.lower(): column for name, column in read_table(file).items()}
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise VitreousError(f"{file}: no column '{missing[0]}'; {nearest(missing[0], table)}")
        for person, answer, truth, condition, name in zip(*(table[c] for c in COLUMNS)):
            key = image_id(name)
            if about.setdefault(key, (truth, condition)) != (truth, condition):
                raise VitreousError(f"{file}: image '{key}' has two categories or conditions")
            answers.setdefault(person, {})[key] = answer
    names, people = sorted(about), sorted(answers)
    given = np.array([[answers[p].get(name, "") for name in names] for p in people])
    truths = np.array([about[name][0] for name in names])
    seen = np.array([[name in answers[p] for name in names] for p in people])
    return HumanTrials(
        tuple(names),
        tuple(about[name][0] for name in names),
        tuple(about[name][1] for name in names),
        tuple(people),
        np.where(seen, (given == truths).astype(float), np.nan),
        given,
    )


def categories_of(classifier: Classifier) -> dict[str, list[int]]:
    """The categories among which a model can decide: name → its classes of that category.

    A model of ImageNet's 1000 classes has all 16; one whose classes are named by WordNet ids of
    some of them has those that its classes belong to.

    Raises:
        VitreousError: If the model has neither, or classes of fewer than two categories.
    """
    classes: dict[str, list[int]] = class_map("cue_conflict")["classes"]
    if classifier.num_classes == 1000:
        return {name: list(places) for name, places in classes.items()}
    known, own = imagenet_index(), classifier.class_names
    if not own or any(name not in known for name in own):
        raise VitreousError(
            f"{classifier.name} has {classifier.num_classes} classes; the 16 categories need "
            "ImageNet's 1000, or some of them named by their WordNet ids"
        )
    place = {known[name]: i for i, name in enumerate(own)}
    found = {n: [place[c] for c in places if c in place] for n, places in classes.items()}
    found = {name: places for name, places in found.items() if places}
    if len(found) < 2:
        raise VitreousError(
            f"the classes of {classifier.name} belong to {len(found)} of the 16 categories; two "
            "are needed to decide"
        )
    return found


def decide(
    classifier: Classifier, stimuli: Stimuli, *, batch_size: int = 32, device: str = "cpu"
) -> list[str]:
    """The model's choice among `categories_of` it: the largest mean probability of its classes.

    Raises:
        VitreousError: If the model's classes are not ImageNet's, nor some of them.
    """
    classes = categories_of(classifier)
    categories, chosen = list(classes), []
    with inference_on(device, classifier):
        for start in ProgressBar(range(0, len(stimuli), batch_size), desc="choices"):
            batch = range(start, min(start + batch_size, len(stimuli)))
            images = model_inputs(classifier, stimuli, batch, None, 8.0)
            chances = classifier(images).softmax(dim=1)
            means = torch.stack([chances[:, classes[c]].mean(dim=1) for c in categories])
            chosen += [categories[i] for i in means.argmax(dim=0).tolist()]
    return chosen


def align_answers(trials: HumanTrials, stimuli: Stimuli, choices: Sequence[str]) -> np.ndarray:
    """The model's choice for each image of the trials, in their order.

    Raises:
        VitreousError: If some image of the trials is not among the stimuli.
    """
    answer = dict(zip(map(image_id, stimuli.names), choices))
    missing = [name for name in trials.names if name not in answer]
    if missing:
        raise VitreousError(
            f"images and trials do not match: {len(missing)} of {len(trials.names)} images "
            f"of the trials are missing, first '{missing[0]}'"
        )
    return np.array([answer[name] for name in trials.names])
