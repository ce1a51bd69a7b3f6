"""Human trials of model-vs-human (Geirhos et al. 2021), and a network's answers to its images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vitreous.brain.activations import inference_on, model_inputs
from vitreous.brain.readers import read_table
from vitreous.brain.stimuli import Stimuli
from vitreous.data.class_maps import class_map
from vitreous.errors import VitreousError, nearest
from vitreous.models import Classifier
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
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    conditions: tuple[str, ...]
    subjects: tuple[str, ...]
    correct: np.ndarray


def image_id(name: str) -> str:
    """Reduce `0001_cl_s01_cr_bear_40_n02134084_5274.png` to what is the same for every subject."""
    parts = Path(name).stem.split("_")
    return "_".join(parts[3:]) if len(parts) > 4 else Path(name).stem


def read_human_trials(folder: str | os.PathLike[str]) -> HumanTrials:
    """Read the CSV files of one experiment, one a subject (and session).

    Raises:
        VitreousError: If there are none, columns are missing, or files contradict each other.
    """
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        raise VitreousError(f"no CSV files of human trials in {folder}")
    answers: dict[str, dict[str, float]] = {}
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
            answers.setdefault(person, {})[key] = float(answer == truth)
    names, people = sorted(about), sorted(answers)
    correct = np.array([[answers[p].get(name, np.nan) for name in names] for p in people])
    return HumanTrials(
        tuple(names),
        tuple(about[name][0] for name in names),
        tuple(about[name][1] for name in names),
        tuple(people),
        correct,
    )


def decide(
    classifier: Classifier, stimuli: Stimuli, *, batch_size: int = 32, device: str = "cpu"
) -> list[str]:
    """The model's choice among the 16 categories: the largest mean probability of its classes.

    Raises:
        VitreousError: If the model does not tell ImageNet's 1000 classes apart.
    """
    if classifier.num_classes != 1000:
        raise VitreousError(
            f"{classifier.name} has {classifier.num_classes} classes; the 16 categories need "
            "ImageNet's 1000"
        )
    classes = class_map("cue_conflict")["classes"]
    categories, chosen = list(classes), []
    with inference_on(device, classifier):
        for start in ProgressBar(range(0, len(stimuli), batch_size), desc="choices"):
            batch = range(start, min(start + batch_size, len(stimuli)))
            images = model_inputs(classifier, stimuli, batch, None, 8.0)
            chances = classifier(images).softmax(dim=1)
            means = torch.stack([chances[:, list(classes[c])].mean(dim=1) for c in categories])
            chosen += [categories[i] for i in means.argmax(dim=0).tolist()]
    return chosen


def align_answers(trials: HumanTrials, stimuli: Stimuli, choices: Sequence[str]) -> np.ndarray:
    """Whether the model's choice is right for each image of the trials, in their order.

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
    return np.array([answer[n] == c for n, c in zip(trials.names, trials.categories)])
