"""`vitreous brain behaviour`: a model's choices against people's."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import numpy as np

from vitreous.brain.activations import extract
from vitreous.brain.agreement import (
    consistency_of_people,
    consistency_of_people_interval,
    error_consistency,
    error_consistency_interval,
)
from vitreous.brain.behaviour import ceiled_i2n, i2n, i2n_ceiling, i2n_intervals
from vitreous.brain.choices import ChoiceTask, find_choices, read_choices
from vitreous.brain.human_trials import HumanTrials, align_answers, decide, read_human_trials
from vitreous.brain.readout import readout_probabilities
from vitreous.brain.records import reference_rows
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.commands.brain.options import ModelOptions, value_text
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.ranges import above
from vitreous.results import Record, Results, accuracy_record


@dataclasses.dataclass(kw_only=True)
class Behaviour(ModelOptions):
    """Compare choices with people's: i2n (--trials), or error consistency (--human).

    Example: vitreous brain behaviour runs/x --trials Rajalingham2018.private --layer blocks.11
    """

    stimuli: Path | None = None
    """Folder or zip of the images that people saw; not needed for a named benchmark."""
    trials: str = ""
    """i2n: a named benchmark (Rajalingham2018.private, Rajalingham2018.public), searched in
    Brain-Score's cache; or the human trials in a NetCDF file, or in a CSV with stimulus_id, truth,
    distractor, choice."""
    fit_stimuli: Path | None = None
    """i2n: images that the readout is fitted on."""
    fit_table: Path | None = None
    """i2n: CSV with stimulus_id and image_label of those images."""
    layer: str = ""
    """i2n: layer that the readout reads."""
    stimulus_degrees: Annotated[float, above(0)] = 8.0
    """i2n: visual angle of the images."""
    human: Path | None = None
    """Error consistency: folder with the CSV files of one model-vs-human experiment."""

    def run(self) -> None:
        """Compare, print, write results."""
        began = time.perf_counter()
        if bool(self.trials) == (self.human is not None):
            raise VitreousError("give either --trials (i2n) or --human (error consistency)")
        if self.human is not None:
            people = read_human_trials(self.human)
            if self.stimuli is None:
                raise VitreousError("--human needs --stimuli: the images that people saw")
            classifier = self.load()
            records = self._error_consistency(classifier, people, self.human.name, self.stimuli)
        else:
            task = self._task()
            classifier = self.load()
            records = self._i2n(classifier, task)
        fresh = Results(classifier.name, records, extra={"brain_reference": reference_rows()})
        for record in records:
            print(f"{record.dataset} · {record.metric}: {value_text(record)}")
        self.write("behaviour", classifier, fresh, began)

    def _task(self) -> ChoiceTask:
        """The trials, their images, and what the readout is fitted on."""
        if not self.layer:
            raise VitreousError("i2n needs --layer: the layer that the readout reads")
        task = find_choices(self.trials)
        if task is not None:
            return task
        if self.stimuli is None or self.fit_stimuli is None or self.fit_table is None:
            raise VitreousError("i2n from files needs --stimuli, --fit-stimuli and --fit-table")
        return read_choices(
            self.trials,
            self.stimuli,
            self.fit_stimuli,
            self.fit_table,
            degrees=self.stimulus_degrees,
        )

    def _error_consistency(
        self, classifier: Classifier, people: HumanTrials, name: str, place: Path
    ) -> list[Record]:
        """Records of the model's agreement with people, of people's, and of its accuracy."""
        stimuli = read_stimuli(place)
        device = self.torch_device()
        choices = decide(classifier, stimuli, batch_size=self.batch_size, device=device)
        right = align_answers(people, stimuli, choices)
        own = (right, people.correct, people.conditions)
        among = (people.correct, people.conditions)
        score, between, n = error_consistency(*own), consistency_of_people(*among), len(right)
        about = {"assembly": name, "region": "behaviour", "subjects": len(people.subjects)}
        model = {**about, "layer": "logits", "convention": "raw"}
        interval = error_consistency_interval(*own)
        spread = consistency_of_people_interval(*among)
        return [
            Record("brain", name, "error_consistency", score.score, n, interval, model),
            Record(
                "brain",
                name,
                "human_error_consistency",
                between.score,
                n,
                spread,
                {**about, "convention": "ceiling"},
            ),
            accuracy_record("brain", name, "accuracy_16", int(right.sum()), n, **model),
        ]

    def _i2n(self, classifier: Classifier, task: ChoiceTask) -> list[Record]:
        """Records of i2n: raw, its ceiling, and normalised by the root of the ceiling."""
        fitting = self._features(classifier, task.fitting)
        names, first = np.unique(task.trials.stimulus, return_index=True)
        features = self._features(classifier, task.stimuli.select(names.tolist()))
        chances, choices = readout_probabilities(fitting, task.labels, features)
        given = (chances, choices, names, np.asarray(task.trials.truth)[first], task.trials)
        raw, ceiling = i2n(*given), i2n_ceiling(task.trials)
        spread = i2n_intervals(*given)
        about = {"assembly": task.name, "region": "behaviour"}
        model = {**about, "layer": self.layer, "degrees": self.degrees_of_view}

        def record(metric: str, value: float, interval: tuple[float, float] | None, **more: str):
            settings = {**(about if metric == "i2n_ceiling" else model), **more}
            return Record("brain", task.name, metric, value, len(names), interval, settings)

        ceiled = ceiled_i2n(raw, ceiling).score
        return [
            record("i2n", raw.score, spread.raw, convention="raw"),
            record("i2n_ceiling", ceiling.score, spread.ceiling, convention="ceiling"),
            record("i2n", ceiled, spread.ceiled, convention="brainscore_2022"),
        ]

    def _features(self, classifier: Classifier, stimuli: Stimuli) -> np.ndarray:
        taken = extract(classifier, stimuli, [self.layer], self.cache, self.extraction())
        if len(taken) != 1:
            raise VitreousError(f"'{self.layer}' matches {len(taken)} layers; name one")
        return next(iter(taken.values()))
