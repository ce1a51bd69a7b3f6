"""`vitreous brain behaviour`: a model's choices against people's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vitreous.brain.activations import extract
from vitreous.brain.agreement import consistency_of_people, error_consistency
from vitreous.brain.behaviour import (
    ceiled_i2n,
    i2n,
    i2n_ceiling,
)
from vitreous.brain.benchmarks import read_trials
from vitreous.brain.human_trials import (
    align_answers,
    decide,
    read_human_trials,
)
from vitreous.brain.readers import read_table
from vitreous.brain.readout import readout_probabilities
from vitreous.brain.scoring import reference_rows
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.commands.brain.options import ModelOptions
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.results import Record, Results


@dataclasses.dataclass
class Behaviour(ModelOptions):
    """Compare choices with people's: i2n (--trials), or error consistency (--human)."""

    stimuli: Path | None = None
    """Folder or zip of the pictures that people saw."""
    trials: Path | None = None
    """i2n: the human trials, a NetCDF file (Rajalingham2018) or a CSV with stimulus_id, truth,
    distractor, choice."""
    fit_stimuli: Path | None = None
    """i2n: pictures that the readout is fitted on."""
    fit_table: Path | None = None
    """i2n: CSV with stimulus_id and image_label of those pictures."""
    layer: str = ""
    """i2n: layer that the readout reads."""
    stimulus_degrees: float = 8.0
    """i2n: visual angle of the pictures."""
    human: Path | None = None
    """Error consistency: folder with the CSV files of one model-vs-human experiment."""
    out: Path | None = None
    """results.json to add to."""

    def run(self) -> None:
        """Compare, print, write results."""
        if self.stimuli is None or (self.trials is None) == (self.human is None):
            raise VitreousError("give --stimuli, and either --trials (i2n) or --human (κ)")
        classifier = self.load()
        results, out = self.results(classifier, self.out)
        if self.human is not None:
            self._error_consistency(classifier, results)
        else:
            self._i2n(classifier, results)
        results.extra["brain_reference"] = reference_rows()
        print(f"results: {results.write(out)}")

    def _error_consistency(self, classifier: Classifier, results: Results) -> None:
        if self.human is None or self.stimuli is None:
            return
        people = read_human_trials(self.human)
        stimuli = read_stimuli(self.stimuli)
        choices = decide(classifier, stimuli, batch_size=self.batch_size, device=self.device)
        right = align_answers(people, stimuli, choices)
        score = error_consistency(right, people.correct, people.conditions)
        between = consistency_of_people(people.correct, people.conditions)
        name, n = self.human.name, len(people.names)
        results.add(
            [
                Record("brain", name, "error_consistency", score.score, n),
                Record("brain", name, "human_error_consistency", between.score, n),
                Record("brain", name, "accuracy_16", float(right.mean()), n),
            ]
        )
        print(
            f"{name}: error consistency {score.score:.3f} ± {score.error:.3f} (between people "
            f"{between.score:.3f}), accuracy {right.mean():.3f}, {len(people.subjects)} subjects"
        )

    def _i2n(self, classifier: Classifier, results: Results) -> None:
        if self.trials is None or self.stimuli is None:
            return
        if self.fit_stimuli is None or self.fit_table is None or not self.layer:
            raise VitreousError("i2n needs --fit-stimuli, --fit-table and --layer")
        trials = read_trials(self.trials)
        table = read_table(self.fit_table)
        if not {"stimulus_id", "image_label"} <= set(table):
            raise VitreousError(f"{self.fit_table}: expected columns stimulus_id and image_label")
        fitting = self._features(classifier, self.fit_stimuli, table["stimulus_id"])
        names, first = np.unique(trials.stimulus, return_index=True)
        features = self._features(classifier, self.stimuli, names.tolist())
        chances, choices = readout_probabilities(fitting, table["image_label"], features)
        truth = np.asarray(trials.truth)[first]
        raw = i2n(chances, choices, names, truth, trials)
        ceiling = i2n_ceiling(trials)
        score = ceiled_i2n(raw, ceiling)
        settings = {"region": "behaviour", "layer": self.layer, "convention": "brainscore_2022"}
        name = self.trials.stem
        results.add(
            [
                Record("brain", name, "ceiled", score.score, len(names), None, settings),
                Record(
                    "brain",
                    name,
                    "raw",
                    raw.score,
                    len(names),
                    None,
                    {"region": "behaviour", "layer": self.layer},
                ),
                Record(
                    "brain",
                    name,
                    "ceiling",
                    ceiling.score,
                    len(trials),
                    None,
                    {"region": "behaviour"},
                ),
            ]
        )
        print(
            f"{name}: i2n {raw.score:.3f}, ceiling {ceiling.score:.3f}, normalised "
            f"{score.score:.3f}"
        )

    def _features(self, classifier: Classifier, place: Path, names: list[str]) -> np.ndarray:
        stimuli: Stimuli = read_stimuli(place, self.stimulus_degrees).select(names)
        found = extract(classifier, stimuli, [self.layer], self.cache, self.extraction())
        if len(found) != 1:
            raise VitreousError(f"'{self.layer}' matches {len(found)} layers; name one")
        return next(iter(found.values()))
