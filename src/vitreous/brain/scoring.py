"""Score layers of a model against recordings, choose one a region, and write what came of it."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from vitreous.brain.activations import Extraction, extract
from vitreous.brain.gram import Kernel, blas_threads
from vitreous.brain.predictivity import (
    linear_predictivity,
    one_to_one,
    pls_predictivity,
    ridge_cv_predictivity,
    ridge_predictivity,
)
from vitreous.brain.recordings import Recording
from vitreous.brain.reduce import fit_components
from vitreous.brain.score import CONVENTIONS, Score, ceiled, published
from vitreous.brain.similarity import cka, rdm, rdm_similarity
from vitreous.brain.stimuli import Stimuli
from vitreous.errors import VitreousError, nearest
from vitreous.models import Classifier
from vitreous.results import Record, Results

logger = logging.getLogger(__name__)
REGRESSIONS: dict[str, Callable[..., Score]] = {
    "pls": pls_predictivity,
    "ridge": ridge_predictivity,
    "ridge_cv": ridge_cv_predictivity,
    "linear": linear_predictivity,
    "one_to_one": one_to_one,
}
SIMILARITIES: dict[str, Callable[..., Score]] = {"rdm": rdm_similarity, "cka": cka}
METRICS = (*REGRESSIONS, *SIMILARITIES)
# Dissimilarity matrices of more pictures are thinned before they are stored for the card.
RDM_SIZE = 96


@dataclasses.dataclass(frozen=True)
class Measure:
    """Which metric, and how.

    Attributes:
        metric: One of `METRICS`.
        components: PLS components.
        device: Where PLS is computed: `cpu`, or a torch device.
        threads: Limit of BLAS threads; None leaves it.
    """

    metric: str = "pls"
    components: int = 25
    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise VitreousError(f"unknown metric '{self.metric}'; {nearest(self.metric, METRICS)}")

    def __call__(
        self, features: np.ndarray, responses: np.ndarray, groups: Any, kernel: Kernel | None
    ) -> Score:
        """Score one layer against the neuroids of one region."""
        if self.metric in SIMILARITIES:
            return SIMILARITIES[self.metric](features, responses)
        options: dict[str, Any] = {"kernel": kernel, "threads": self.threads}
        if self.metric == "pls":
            options.update(components=self.components, device=self.device)
        return REGRESSIONS[self.metric](features, responses, groups, **options)


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Principal components to reduce layers to, as Brain-Score does to choose them.

    Attributes:
        stimuli: Pictures they are fitted on: Brain-Score's are 1000 of ImageNet's validation set.
        components: How many.
    """

    stimuli: Stimuli
    components: int = 1000


@dataclasses.dataclass(frozen=True)
class LayerScore:
    """The score of one layer for one region.

    Attributes:
        layer: Its name.
        depth: Its place among the layers scored, from 0 to 1.
        score: What the metric gave.
    """

    layer: str
    depth: float
    score: Score


def score_layers(
    classifier: Classifier,
    recording: Recording,
    layers: Sequence[str],
    cache: str | os.PathLike[str],
    *,
    measure: Measure | None = None,
    extraction: Extraction | None = None,
    regions: Sequence[str] = (),
    reduction: Reduction | None = None,
) -> dict[str, list[LayerScore]]:
    """Score every layer for every region; one Gram matrix a layer serves all regions.

    Args:
        classifier: The model.
        recording: Responses and pictures.
        layers: Names or patterns, see `find_layers`.
        cache: Folder of the activations.
        measure: Metric and its settings; PLS with 25 components by default.
        extraction: How activations are taken.
        regions: Which regions; all of the recording by default.
        reduction: Reduce every layer to principal components first; only for the choice of
            layers, the final score takes all units.

    Returns:
        Region → scores in the model's order of layers.
    """
    measure = measure or Measure()
    parts = {name: recording.select(name) for name in regions or recording.regions}
    responses = {name: part.responses() for name, part in parts.items()}
    activations = extract(classifier, recording.images(), layers, cache, extraction)
    if reduction is not None:
        fitted = extract(classifier, reduction.stimuli, layers, cache, extraction)
        activations = {
            layer: values
            if (found := fit_components(fitted[layer], reduction.components)) is None
            else found.project(values)
            for layer, values in activations.items()
        }
    return score_features(activations, responses, recording.groups(), measure)


def score_features(
    activations: Mapping[str, np.ndarray],
    responses: Mapping[str, np.ndarray],
    groups: Any = None,
    measure: Measure | None = None,
) -> dict[str, list[LayerScore]]:
    """Score named features (images × units) for the responses (images × neuroids) of regions."""
    measure = measure or Measure()
    found: dict[str, list[LayerScore]] = {region: [] for region in responses}
    last = max(1, len(activations) - 1)
    bar = tqdm(activations.items(), desc=f"{measure.metric} of {len(activations)} layers")
    for index, (layer, features) in enumerate(bar):
        kernel = None
        if measure.metric in REGRESSIONS and measure.metric != "one_to_one":
            with blas_threads(measure.threads):
                kernel = Kernel.of(features)
        for region, values in responses.items():
            score = measure(features, values, groups, kernel)
            found[region].append(LayerScore(layer, index / last, score))
            bar.set_postfix_str(f"{region} {layer} {score.score:.3f}")
    return found


def choose_layers(scores: Mapping[str, Sequence[LayerScore]]) -> dict[str, str]:
    """The layer of the highest score for each region."""
    chosen = {}
    for region, rows in scores.items():
        known = [row for row in rows if np.isfinite(row.score.score)]
        if not known:
            raise VitreousError(f"no layer has a score for {region}: every neuroid is constant")
        chosen[region] = max(known, key=lambda row: row.score.score).layer
    return chosen


def add_regions(
    results: Results,
    recording: Recording,
    scores: Mapping[str, LayerScore],
    measure: Measure,
) -> None:
    """Add one score a region to results: raw, ceiling, and ceiled under both conventions."""
    records: list[Record] = []
    rows = results.extra.setdefault("brain", {}).setdefault("regions", [])
    for region, row in scores.items():
        part = recording.select(region)
        consistency = part.ceiling()
        interval = {axis: _interval(row.score, axis) for axis in ("splits", "neuroids")}
        settings = {"region": region, "layer": row.layer, "regression": measure.metric}
        n = part.assembly.sizes["neuroid"]
        raw = row.score.score
        records.append(
            Record("brain", recording.name, "raw", raw, n, interval["neuroids"], settings)
        )
        values: dict[str, float] = {}
        if consistency is not None and consistency.score > 0:
            about = {"region": region}
            records.append(
                Record("brain", recording.name, "ceiling", consistency.score, n, None, about)
            )
            if measure.metric in REGRESSIONS:
                values = {name: ceiled(raw, consistency.score, name) for name in CONVENTIONS}
        # The table of the 2022 paper stands beside the bars, so its convention comes first.
        for name in sorted(values):
            more = {**settings, "convention": name}
            records.append(Record("brain", recording.name, "ceiled", values[name], n, None, more))
        rows[:] = [r for r in rows if (r["region"], r["assembly"]) != (region, recording.name)]
        rows.append(
            {
                "region": region,
                "assembly": recording.name,
                "layer": row.layer,
                "metric": measure.metric,
                "raw": raw,
                "error": row.score.error,
                "ceiling": None if consistency is None else consistency.score,
                "scores": values,
                "ci95": interval,
            }
        )
    results.add(records)
    results.extra["brain_reference"] = reference_rows()


def add_depth(results: Results, scores: Mapping[str, Sequence[LayerScore]]) -> None:
    """Add score-by-depth curves to results."""
    table = results.extra.setdefault("depth", {})
    for region, rows in scores.items():
        table[region] = [
            {"layer": r.layer, "depth": r.depth, "score": r.score.score, "error": r.score.error}
            for r in rows
        ]


def add_rdms(results: Results, matrices: Mapping[str, np.ndarray]) -> None:
    """Add dissimilarity matrices to results, thinned to `RDM_SIZE` pictures."""
    table = results.extra.setdefault("rdms", {})
    for name, matrix in matrices.items():
        table[name] = np.round(thin(matrix), 3).tolist()


def thin(matrix: np.ndarray, size: int = RDM_SIZE) -> np.ndarray:
    """Keep evenly spaced rows and columns of a square matrix."""
    n = len(matrix)
    kept = np.arange(n) if n <= size else np.linspace(0, n - 1, size).round().astype(int)
    return matrix[np.ix_(kept, kept)]


def rdm_pair(features: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dissimilarity matrices of a layer and of the neuroids, on the same evenly spaced pictures."""
    n = len(responses)
    kept = np.linspace(0, n - 1, min(n, RDM_SIZE)).round().astype(int)
    return rdm(features[kept]), rdm(responses[kept])


def reference_rows() -> dict[str, dict[str, float]]:
    """Published scores by region under `brainscore_2022`: the paper's four rows, and AlexNet."""
    table = published()
    names = table["regions"]
    rows = {m["name"]: {region: m[region] for region in names} for m in table["models"]}
    ceilings, alexnet = table["reference"]["ceilings"], table["reference"]["AlexNet"]
    # i2n is normalised by the root of its ceiling, responses by the ceiling and squared.
    rows["AlexNet"] = {
        region: alexnet[region] / ceilings[region] ** 0.5
        if region == "behaviour"
        else ceiled(alexnet[region], ceilings[region], "brainscore_2022")
        for region in names
    }
    return rows


def _interval(score: Score, axis: Any) -> tuple[float, float] | None:
    enough = score.raw.ndim > (axis == "neuroids") and score.raw.shape[axis == "neuroids"] > 1
    if not enough or not np.isfinite(score.score):
        return None
    return score.interval(axis)
