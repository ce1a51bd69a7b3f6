"""The work of `vitreous brain behaviour`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

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
from vitreous.brain.cues import shape_bias
from vitreous.brain.human_trials import (
    HumanTrials,
    align_answers,
    categories_of,
    decide,
    read_human_trials,
)
from vitreous.brain.readout import readout_probabilities
from vitreous.brain.records import reference_rows
from vitreous.brain.stimuli import Stimuli, read_stimuli
from vitreous.commands.brain.running import (
    extraction,
    load_measured,
    torch_device,
    value_text,
    write,
)
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.results import Record, Results, accuracy_record

if TYPE_CHECKING:
    from vitreous.commands.brain.behaviour import Behaviour


def compare_choices(options: Behaviour) -> None:
    """Compare, print, write results."""
    began = time.perf_counter()
    if bool(options.trials) == (options.human is not None):
        raise VitreousError("give either --trials (i2n) or --human (error consistency)")
    if options.human is not None:
        people = read_human_trials(options.human)
        if options.stimuli is None:
            raise VitreousError("--human needs --stimuli: the images that people saw")
        classifier = load_measured(options)
        records = _error_consistency(
            options, classifier, people, options.human.name, options.stimuli
        )
    else:
        task = _task(options)
        classifier = load_measured(options)
        records = _i2n(options, classifier, task)
    fresh = Results(classifier.name, records, extra={"brain_reference": reference_rows()})
    for record in records:
        print(f"{record.dataset} · {record.metric}: {value_text(record)}")
    write(options, "behaviour", classifier, fresh, began)


def _task(options: Behaviour) -> ChoiceTask:
    """The trials, their images, and what the readout is fitted on."""
    if not options.layer:
        raise VitreousError("i2n needs --layer: the layer that the readout reads")
    task = find_choices(options.trials)
    if task is not None:
        return task
    if options.stimuli is None or options.fit_stimuli is None or options.fit_table is None:
        raise VitreousError("i2n from files needs --stimuli, --fit-stimuli and --fit-table")
    return read_choices(
        options.trials,
        options.stimuli,
        options.fit_stimuli,
        options.fit_table,
        degrees=options.stimulus_degrees,
    )


def _error_consistency(
    options: Behaviour, classifier: Classifier, people: HumanTrials, name: str, place: Path
) -> list[Record]:
    """Records of the model's agreement with people, of people's, and of its accuracy.

    A model of some of ImageNet's classes is compared on the images of the categories that it has.
    """
    among = categories_of(classifier)
    people, stimuli = people.among(among), read_stimuli(place)
    if not people.names:
        raise VitreousError(f"no image of {name} is of a category of {classifier.name}")
    device = torch_device(options)
    choices = decide(classifier, stimuli, batch_size=options.batch_size, device=device)
    answers = align_answers(people, stimuli, choices)
    right = answers == np.array(people.categories)
    own = (right, people.correct, people.conditions)
    between = (people.correct, people.conditions)
    about: dict[str, object] = {"assembly": name, "region": "behaviour"}
    about |= {"subjects": len(people.subjects), "categories": len(among)}
    model = {**about, "layer": "logits", "convention": "raw"}
    ceiling = {**about, "convention": "ceiling"}

    def record(metric: str, score: float, spread: tuple[float, float] | None, **settings: object):
        return Record("brain", name, metric, score, len(right), spread, settings)

    records = [
        record(
            "error_consistency",
            error_consistency(*own).score,
            error_consistency_interval(*own),
            **model,
        ),
        record(
            "human_error_consistency",
            consistency_of_people(*between).score,
            consistency_of_people_interval(*between),
            **ceiling,
        ),
        accuracy_record("brain", name, "accuracy_16", int(right.sum()), len(right), **model),
    ]
    for metric, given, settings in (
        ("shape_bias", answers, model),
        ("human_shape_bias", people.answers, ceiling),
    ):
        if (bias := shape_bias(people.names, given, among)) is not None:
            counts = (bias.share, bias.images, bias.interval)
            records.append(Record("brain", name, metric, *counts, settings))
    return records


def _i2n(options: Behaviour, classifier: Classifier, task: ChoiceTask) -> list[Record]:
    """Records of i2n: raw, its ceiling, and normalised by the root of the ceiling."""
    fitting = _features(options, classifier, task.fitting)
    names, first = np.unique(task.trials.stimulus, return_index=True)
    features = _features(options, classifier, task.stimuli.select(names.tolist()))
    chances, choices = readout_probabilities(fitting, task.labels, features)
    given = (chances, choices, names, np.asarray(task.trials.truth)[first], task.trials)
    raw, ceiling = i2n(*given), i2n_ceiling(task.trials)
    spread = i2n_intervals(*given)
    about = {"assembly": task.name, "region": "behaviour"}
    model = {**about, "layer": options.layer, "degrees": options.degrees_of_view}

    def record(metric: str, value: float, interval: tuple[float, float] | None, **more: str):
        settings = {**(about if metric == "i2n_ceiling" else model), **more}
        return Record("brain", task.name, metric, value, len(names), interval, settings)

    ceiled = ceiled_i2n(raw, ceiling).score
    return [
        record("i2n", raw.score, spread.raw, convention="raw"),
        record("i2n_ceiling", ceiling.score, spread.ceiling, convention="ceiling"),
        record("i2n", ceiled, spread.ceiled, convention="brainscore_2022"),
    ]


def _features(options: Behaviour, classifier: Classifier, stimuli: Stimuli) -> np.ndarray:
    taken = extract(classifier, stimuli, [options.layer], options.cache, extraction(options))
    if len(taken) != 1:
        raise VitreousError(f"'{options.layer}' matches {len(taken)} layers; name one")
    return next(iter(taken.values()))
