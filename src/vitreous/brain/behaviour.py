"""Behaviour: image-level choices against human trials (i2n)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vitreous.brain.checks import check_unique
from vitreous.brain.score import Score, aggregate
from vitreous.errors import VitreousError, require
from vitreous.statistics import percentile_interval

CAP = 5.0


@dataclasses.dataclass(frozen=True)
class Trials:
    """Two-choice trials of people.

    Attributes:
        stimulus: Image of each trial.
        truth: The object shown.
        distractor: The other object offered.
        choice: The object chosen.

    Examples:
        >>> shown, other = np.array(["bear", "bear"]), np.array(["dog", "dog"])
        >>> trials = Trials(np.array(["1.png", "1.png"]), shown, other, np.array(["bear", "dog"]))
        >>> float((trials.choice == trials.truth).mean())
        0.5
    """

    stimulus: np.ndarray
    truth: np.ndarray
    distractor: np.ndarray
    choice: np.ndarray

    def __post_init__(self) -> None:
        columns = (self.stimulus, self.truth, self.distractor, self.choice)
        lengths = [len(column) for column in columns]
        if len(set(lengths)) != 1 or not len(self.stimulus):
            raise VitreousError(f"trials: expected four columns of one length, found {lengths}")

    def __len__(self) -> int:
        return len(self.stimulus)

    def take(self, rows: Sequence[int] | np.ndarray) -> Trials:
        """Some of the trials, in the order given."""
        columns = (self.stimulus, self.truth, self.distractor, self.choice)
        return Trials(*(np.asarray(column)[rows] for column in columns))


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
        stimulus_id: Name of each image, each once.
        truth: Object of each image, one of the choices.
        trials: Human trials of the same images.
        repetitions: Number of random halves.
        seed: Seed of the halves (NumPy's legacy generator).

    Raises:
        VitreousError: If names are repeated, or images and trials do not match.

    Examples:
        >>> objects = np.repeat(["bear", "dog", "elephant"], 4)
        >>> names = [f"{i}.png" for i in range(12)]
        >>> random = np.random.default_rng(0)
        >>> shown = random.integers(0, 12, 2000)
        >>> other = random.choice(["bear", "dog", "elephant"], 2000)
        >>> keep = other != objects[shown]
        >>> shown, other = shown[keep], other[keep]
        >>> said = np.where(random.random(len(shown)) < 0.6 + 0.03 * shown, objects[shown], other)
        >>> trials = Trials(np.array(names)[shown], objects[shown], other, said)
        >>> score = i2n(random.dirichlet([1, 1, 1], 12), np.unique(objects), names, objects, trials)
        >>> -1 <= score.score <= 1, score.raw.shape
        (True, (2,))
    """
    given = (probabilities, choices, stimulus_id, truth)
    pattern, halves = _patterns(*given, trials, repetitions, seed)
    return aggregate(np.array([_correlate(pattern, first) for first, _ in halves]))


def i2n_ceiling(trials: Trials, *, repetitions: int = 2, seed: int = 0) -> Score:
    """Correlation of the human pattern of one random half with that of the other.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> shown = random.integers(0, 8, 2000)
        >>> truth = np.where(shown < 4, "bear", "dog")
        >>> other = np.where(shown < 4, "dog", "bear")
        >>> said = np.where(random.random(2000) < 0.55 + 0.05 * shown, truth, other)
        >>> trials = Trials(shown.astype(str), truth, other, said)
        >>> i2n_ceiling(trials).score > 0.5  # people agree on which images are hard
        True
    """
    names, first = np.unique(trials.stimulus, return_index=True)
    kinds = np.unique(np.concatenate([trials.choice, trials.truth, trials.distractor]))
    own = _true_column(np.asarray(trials.truth)[first], kinds)
    halves = _human_patterns(trials, names, kinds, own, repetitions, seed)
    return aggregate(np.array([_correlate(a, b) for a, b in halves]))


@dataclasses.dataclass(frozen=True)
class I2nIntervals:
    """95 % intervals (low, high) of i2n, of its ceiling, and of the normalised score.

    Examples:
        >>> intervals = I2nIntervals(raw=(0.2, 0.4), ceiling=(0.5, 0.7), ceiled=None)
        >>> intervals.ceiling
        (0.5, 0.7)
    """

    raw: tuple[float, float] | None
    ceiling: tuple[float, float] | None
    ceiled: tuple[float, float] | None


def i2n_intervals(
    probabilities: np.ndarray,
    choices: Sequence[str] | np.ndarray,
    stimulus_id: Sequence[str] | np.ndarray,
    truth: Sequence[str] | np.ndarray,
    trials: Trials,
    *,
    repetitions: int = 2,
    seed: int = 0,
    resamples: int = 1000,
) -> I2nIntervals:
    """Bootstrap i2n over images: score and ceiling of the same images in each sample.

    The normalised d′ patterns stay as they are, so that what all images share (the mean confusion
    of two objects) is not drawn anew. Arguments as for `i2n`.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> shown = random.integers(0, 8, 2000)
        >>> truth = np.where(shown < 4, "bear", "dog")
        >>> other = np.where(shown < 4, "dog", "bear")
        >>> said = np.where(random.random(2000) < 0.55 + 0.05 * shown, truth, other)
        >>> trials = Trials(shown.astype(str), truth, other, said)
        >>> model = random.dirichlet([1, 1], 8)
        >>> names, objects = [str(i) for i in range(8)], ["bear"] * 4 + ["dog"] * 4
        >>> choices = ["bear", "dog"]
        >>> got = i2n_intervals(model, choices, names, objects, trials, resamples=50)
        >>> -1 <= got.raw[0] <= got.raw[1] <= 1
        True
    """
    given = (probabilities, choices, stimulus_id, truth)
    pattern, halves = _patterns(*given, trials, repetitions, seed)
    n = len(pattern)
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    raw = np.stack([_resampled_correlation(counts, pattern, a) for a, _ in halves])
    ceiling = np.stack([_resampled_correlation(counts, a, b) for a, b in halves])
    with np.errstate(invalid="ignore"):
        ceiled = (raw / np.sqrt(ceiling)).mean(axis=0)
    return I2nIntervals(
        percentile_interval(raw.mean(axis=0)),
        percentile_interval(ceiling.mean(axis=0)),
        percentile_interval(ceiled) if (ceiling > 0).all() else None,
    )


def _patterns(
    probabilities: np.ndarray,
    choices: Sequence[str] | np.ndarray,
    stimulus_id: Sequence[str] | np.ndarray,
    truth: Sequence[str] | np.ndarray,
    trials: Trials,
    repetitions: int,
    seed: int,
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Normalised d′ (images × choices, both sorted) of the model, and of people by halves."""
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
    people = _human_patterns(trials, names[order], kinds[columns], own, repetitions, seed)
    return _normalized_dprime(wrong, own), people


def _human_patterns(
    trials: Trials,
    names: np.ndarray,
    kinds: np.ndarray,
    own: np.ndarray,
    repetitions: int,
    seed: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Normalised d′ of both halves of each repetition."""

    def pattern(half: Trials) -> np.ndarray:
        return _normalized_dprime(_confusions(half, names, kinds, own), own)

    return [(pattern(a), pattern(b)) for a, b in _halves(trials, repetitions, seed)]


def ceiled_i2n(score: Score, ceiling: Score) -> Score:
    """Divide each repetition's correlation by the square root of its ceiling.

    Examples:
        >>> raw, ceiling = (Score(v, 0.0, np.array([v, v])) for v in (0.3, 0.36))
        >>> round(ceiled_i2n(raw, ceiling).score, 6)
        0.5
    """
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
            f"probabilities: expected {len(names)} images × {len(choices)} choices with one "
            f"truth each, found {probabilities.shape} and {len(truth)}"
        )
    check_unique(names)
    check_unique(choices, "choice")
    missing = sorted(set(np.asarray(trials.stimulus).tolist()) - set(names.tolist()))
    extra = sorted(set(names.tolist()) - set(np.asarray(trials.stimulus).tolist()))
    if missing or extra:
        raise VitreousError(
            f"images and trials do not match: {len(missing)} images of the trials have no "
            f"probabilities, {len(extra)} images have no trial; first '{(missing + extra)[0]}'"
        )


def _true_column(truth: np.ndarray, choices: np.ndarray) -> np.ndarray:
    position = {name: i for i, name in enumerate(choices.tolist())}
    unknown = [t for t in truth.tolist() if t not in position]
    if unknown:
        raise VitreousError(f"object '{unknown[0]}' of an image is not among the choices")
    return np.array([position[t] for t in truth.tolist()])


def _halves(trials: Trials, repetitions: int, seed: int) -> list[tuple[Trials, Trials]]:
    """Random halves of the trials; one generator for all, so score and ceiling share them."""
    generator = np.random.RandomState(seed)
    halves = []
    for _ in range(repetitions):
        index = list(range(len(trials)))
        generator.shuffle(index)
        middle = len(index) // 2
        halves.append((trials.take(index[:middle]), trials.take(index[middle:])))
    return halves


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


def _normalized_dprime(wrong: np.ndarray, own: np.ndarray) -> np.ndarray:
    """d′ of each image and distractor, clipped, without the mean of its (object, distractor)."""
    stats = require("scipy.stats", "brain")
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
        raise VitreousError("fewer than three (image, distractor) pairs have both answers")
    return float(np.corrcoef(source[known], target[known])[0, 1])


def _resampled_correlation(
    counts: np.ndarray, source: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """`_correlate` with each image (row) counted as often as each row of `counts` says."""
    known = ~(np.isnan(source) | np.isnan(target))
    a, b = np.where(known, source, 0.0), np.where(known, target, 0.0)
    parts = (known, a, b, a * a, b * b, a * b)
    n, sa, sb, saa, sbb, sab = (counts @ part.sum(axis=1, dtype=np.float64) for part in parts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (n * sab - sa * sb) / np.sqrt((n * saa - sa * sa) * (n * sbb - sb * sb))
