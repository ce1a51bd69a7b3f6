"""Behaviour: image-level choices against human trials (i2n), and error consistency."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.brain.checks import check_unique
from vitreous.brain.score import Score, aggregate
from vitreous.errors import VitreousError, require

CAP = 5.0


@dataclasses.dataclass(frozen=True)
class Trials:
    """Two-choice trials of people.

    Attributes:
        stimulus: Picture of each trial.
        truth: The object shown.
        distractor: The other object offered.
        choice: The object chosen.
    """

    stimulus: np.ndarray
    truth: np.ndarray
    distractor: np.ndarray
    choice: np.ndarray

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if len(set(lengths.values())) != 1 or not len(self.stimulus):
            raise VitreousError(f"trials: expected four columns of one length, found {lengths}")

    def __len__(self) -> int:
        return len(self.stimulus)

    def __getitem__(self, index: Any) -> Trials:
        return Trials(*(np.asarray(getattr(self, f.name))[index] for f in dataclasses.fields(self)))


def i2n(
    probabilities: np.ndarray,
    choices: Sequence[str] | np.ndarray,
    stimulus_id: Sequence[str] | np.ndarray,
    truth: Sequence[str] | np.ndarray,
    trials: Trials,
    *,
    repetitions: int = 2,
    seed: int = 0,
) -> Score:
    """Image-level, normalised consistency with human choices (Rajalingham et al. 2018).

    p(distractor) = p_distractor / (p_distractor + p_object); d′ = Z(1 − p) − Z(mean of the
    opposite confusion), clipped to ±5; the mean of each (object, distractor) pair is subtracted;
    Pearson correlation with one random half of the trials, averaged over repetitions. Raw:
    divide by √ceiling (`i2n_ceiling`) to normalise, as `ceiled_i2n` does.

    Args:
        probabilities: images × choices, of the model's readout.
        choices: Names of the choices.
        stimulus_id: Name of each picture, each once.
        truth: Object of each picture, one of the choices.
        trials: Human trials of the same pictures.
        repetitions: Number of random halves.
        seed: Seed of the halves (NumPy's legacy generator).

    Raises:
        VitreousError: If names are repeated, or pictures and trials do not match.
    """
    names, objects, kinds = np.asarray(stimulus_id), np.asarray(truth), np.asarray(choices)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    _check_behaviour(probabilities, kinds, names, objects, trials)
    order, columns = np.argsort(names), np.argsort(kinds)
    model = probabilities[np.ix_(order, columns)]
    own = _true_column(objects[order], kinds[columns])
    rows = np.arange(len(model))
    with np.errstate(invalid="ignore", divide="ignore"):
        wrong = model / (model + model[rows, own][:, None])
    wrong[rows, own] = np.nan
    pattern = _normalised_dprime(wrong, own)
    halves = _halves(trials, repetitions, seed)
    table = [
        _normalised_dprime(_confusions(half, names[order], kinds[columns], own), own)
        for half, _ in halves
    ]
    return aggregate(np.array([_correlate(pattern, human) for human in table]))


def i2n_ceiling(trials: Trials, *, repetitions: int = 2, seed: int = 0) -> Score:
    """Correlation of the human pattern of one random half with that of the other."""
    names, first = np.unique(trials.stimulus, return_index=True)
    kinds = np.unique(np.concatenate([trials.choice, trials.truth, trials.distractor]))
    own = _true_column(np.asarray(trials.truth)[first], kinds)
    values = []
    for pair in _halves(trials, repetitions, seed):
        a, b = (_normalised_dprime(_confusions(half, names, kinds, own), own) for half in pair)
        values.append(_correlate(a, b))
    return aggregate(np.array(values))


def ceiled_i2n(score: Score, ceiling: Score) -> Score:
    """Divide each repetition's correlation by the square root of its ceiling."""
    if score.raw.shape != ceiling.raw.shape or not (ceiling.raw > 0).all():
        raise VitreousError("the ceiling must be positive and of as many repetitions as the score")
    return aggregate(score.raw / np.sqrt(ceiling.raw))


def _check_behaviour(
    probabilities: np.ndarray,
    choices: np.ndarray,
    names: np.ndarray,
    truth: np.ndarray,
    trials: Trials,
) -> None:
    if probabilities.shape != (len(names), len(choices)) or len(truth) != len(names):
        raise VitreousError(
            f"probabilities: expected {len(names)} pictures × {len(choices)} choices with one "
            f"truth each, found {probabilities.shape} and {len(truth)}"
        )
    check_unique(names)
    check_unique(choices, "choice")
    missing = sorted(set(np.asarray(trials.stimulus).tolist()) - set(names.tolist()))
    extra = sorted(set(names.tolist()) - set(np.asarray(trials.stimulus).tolist()))
    if missing or extra:
        raise VitreousError(
            f"pictures and trials do not match: {len(missing)} pictures of the trials have no "
            f"probabilities, {len(extra)} pictures have no trial; first '{(missing + extra)[0]}'"
        )


def _true_column(truth: np.ndarray, choices: np.ndarray) -> np.ndarray:
    position = {name: i for i, name in enumerate(choices.tolist())}
    unknown = [t for t in truth.tolist() if t not in position]
    if unknown:
        raise VitreousError(f"object '{unknown[0]}' of a picture is not among the choices")
    return np.array([position[t] for t in truth.tolist()])


def _halves(trials: Trials, repetitions: int, seed: int) -> list[tuple[Trials, Trials]]:
    """Random halves of the trials; one generator for all, so score and ceiling share them."""
    generator = np.random.RandomState(seed)
    found = []
    for _ in range(repetitions):
        index = list(range(len(trials)))
        generator.shuffle(index)
        middle = len(index) // 2
        found.append((trials[index[:middle]], trials[index[middle:]]))
    return found


def _confusions(
    trials: Trials, names: np.ndarray, choices: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Share of the trials offering a choice in which it was chosen: images × choices."""
    row = {name: i for i, name in enumerate(names.tolist())}
    column = {name: i for i, name in enumerate(choices.tolist())}
    chosen, offered = np.zeros((len(row), len(column))), np.zeros((len(row), len(column)))
    rows = [row[s] for s in np.asarray(trials.stimulus).tolist()]
    for values, target in ((trials.choice, chosen), (trials.truth, offered)):
        np.add.at(target, (rows, [column[v] for v in np.asarray(values).tolist()]), 1)
    np.add.at(offered, (rows, [column[v] for v in np.asarray(trials.distractor).tolist()]), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = chosen / offered
    share[np.arange(len(share)), own] = np.nan
    return share


def _normalised_dprime(wrong: np.ndarray, own: np.ndarray) -> np.ndarray:
    """d′ of each picture and distractor, clipped, without the mean of its (object, distractor)."""
    stats: Any = require("scipy.stats", "brain")
    kinds = wrong.shape[1]
    opposite = np.full((kinds, kinds), np.nan)
    for shown in range(kinds):
        for other in range(kinds):
            opposite[shown, other] = _mean(wrong[own == shown, other])
    with np.errstate(invalid="ignore"):
        # The false alarms of "own" are how often it was chosen when the distractor was shown.
        alarms = opposite[:, own].T
        dprime = stats.norm.ppf(1.0 - wrong) - stats.norm.ppf(alarms)
    dprime = np.clip(dprime, -CAP, CAP)
    for shown in range(kinds):
        for other in range(kinds):
            cells = dprime[own == shown, other]
            dprime[own == shown, other] = cells - _mean(cells)
    return dprime


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _correlate(source: np.ndarray, target: np.ndarray) -> float:
    """Pearson correlation over the cells that both have."""
    known = ~(np.isnan(source) | np.isnan(target))
    if known.sum() < 3:
        raise VitreousError("fewer than three (picture, distractor) pairs have both answers")
    return float(np.corrcoef(source[known], target[known])[0, 1])
