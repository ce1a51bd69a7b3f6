"""What brain scores add to `results.json`: records that name all they depend on, and tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.brain.measure import Measure, Setting
from vitreous.brain.recordings import Recording
from vitreous.brain.score import CONVENTIONS, Score, ceiled, ceiled_interval, published
from vitreous.brain.scoring import LayerScore, RegionScore
from vitreous.brain.similarity import rdm, similarity_of_subset
from vitreous.provenance import Provenance
from vitreous.results import Record, Results
from vitreous.statistics import jackknife_interval

# Dissimilarity matrices of more images are thinned before they are stored for the card.
RDM_SIZE = 96


def region_records(
    recording: Recording,
    row: RegionScore,
    measure: Measure,
    *,
    chosen_on: str | None = None,
    degrees: float = 8.0,
) -> list[Record]:
    """Records of one region: the raw score, its ceiling, and the score ceiled by each convention.

    The metric of a record is the metric's name (`pls`, `ridge`, `cka`, …; the ceiling's is
    `internal_consistency`). Settings: `assembly`, `region`, `layer`, `convention` (`raw`,
    `ceiling`, or one of `CONVENTIONS`), `chosen_on` (the recording that the layer was chosen on;
    None where the user named it), and the settings of the metric.

    Args:
        recording: What was scored against.
        row: What came of it.
        measure: The metric.
        chosen_on: Name of the recording on which the layer was chosen.
        degrees: The model's field of view.
    """
    place = {"assembly": recording.name, "region": row.region}
    about: dict[str, Setting | None] = {
        **place,
        "layer": row.layer,
        "chosen_on": chosen_on,
        "degrees": degrees,
        **measure.settings(),
    }
    if recording.group is not None:
        about["stratified_by"] = recording.group
    n, value = row.neuroids, row.score.score

    def record(
        metric: str,
        number: float,
        interval: tuple[float, float] | None,
        convention: str,
        settings: Mapping[str, Setting | None],
    ) -> Record:
        named = {**settings, "convention": convention}
        return Record("brain", recording.name, metric, number, n, interval, named, recording.source)

    records = [record(measure.metric, value, row.interval, "raw", about)]
    ceiling = row.ceiling
    if ceiling is None or not ceiling.score > 0:
        return records
    spread = ceiling.interval("neuroids") if n > 1 else None
    records.append(record("internal_consistency", ceiling.score, spread, "ceiling", place))
    if measure.regression and np.isfinite(value):
        for name in sorted(CONVENTIONS):
            interval = ceiled_interval(row.score, ceiling, name)
            number = ceiled(value, ceiling.score, name)
            records.append(record(measure.metric, number, interval, name, about))
    return records


def similarity_record(
    name: str,
    layer: str,
    matrix: np.ndarray,
    target: np.ndarray,
    value: float,
    *,
    degrees: float = 8.0,
) -> Record:
    """Record of the similarity of a layer's dissimilarity matrix with a given one.

    Args:
        name: Name of the given matrix: both assembly and region.
        layer: The layer.
        matrix: images × images of the layer.
        target: The given one.
        value: `compare_rdms` of the two; the interval is a jackknife over images.
        degrees: The model's field of view.
    """
    interval = jackknife_interval(similarity_of_subset(matrix, target), len(target), value)
    settings = {
        "assembly": name,
        "region": name,
        "layer": layer,
        "convention": "raw",
        "chosen_on": None,
        "degrees": degrees,
    }
    return Record("brain", name, "rdm", value, len(target), interval, settings)


def add_regions(
    results: Results,
    recording: Recording,
    rows: Sequence[RegionScore],
    measure: Measure,
    *,
    chosen_on: Mapping[str, str] | None = None,
    degrees: float = 8.0,
) -> None:
    """Add the records of regions, and their spread over splits for readers of `extra`.

    Args:
        results: What is added to.
        recording: What was scored against.
        rows: One a region.
        measure: The metric.
        chosen_on: Region → name of the recording on which its layer was chosen.
        degrees: The model's field of view.
    """
    table = results.extra.setdefault("brain", {}).setdefault("regions", {})
    for row in rows:
        origin = (chosen_on or {}).get(row.region)
        results.add(region_records(recording, row, measure, chosen_on=origin, degrees=degrees))
        table[f"{row.region} · {recording.name} · {measure.metric} · {row.layer}"] = {
            "region": row.region,
            "assembly": recording.name,
            "layer": row.layer,
            "metric": measure.metric,
            "chosen_on": origin,
            **measure.settings(),
            "score": row.score.score,
            "error": row.score.error,
            "ci95_splits": _over_splits(row.score),
            "ceiling": None if row.ceiling is None else row.ceiling.score,
        }
    results.extra["brain_reference"] = reference_rows()


def add_choice(results: Results, chosen: Mapping[str, str], assembly: str, metric: str) -> None:
    """Remember which layer was chosen for each region, and on what."""
    table = results.extra.setdefault("brain", {}).setdefault("chosen", {})
    for region, layer in chosen.items():
        table[region] = {"layer": layer, "assembly": assembly, "metric": metric}


def read_choice(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Region → `layer`, `assembly`, `metric` of the choice stored in results; {} without any."""
    file = Path(path)
    file = file if file.suffix == ".json" else file / "results.json"
    if not file.is_file():
        return {}
    return dict(Results.read(file).extra.get("brain", {}).get("chosen", {}))


def add_depth(
    results: Results, scores: Mapping[str, Sequence[LayerScore]], assembly: str, metric: str
) -> None:
    """Add score-by-depth curves to results; pixels, which have no depth, stand beside them."""
    curves = results.extra.setdefault("depth", {})
    baselines = results.extra.setdefault("pixels", {})
    for region, rows in scores.items():
        name = f"{region} · {assembly} · {metric}"
        curves[name] = [
            {"layer": r.layer, "depth": r.depth, "score": r.score.score, "error": r.score.error}
            for r in rows
            if r.depth is not None
        ]
        for row in rows:
            if row.depth is None:
                baselines[name] = {"score": row.score.score, "error": row.score.error}


def add_rdms(results: Results, matrices: Mapping[str, np.ndarray]) -> None:
    """Add dissimilarity matrices to results, thinned to `RDM_SIZE` images."""
    table = results.extra.setdefault("rdms", {})
    for name, matrix in matrices.items():
        table[name] = np.round(thin(matrix), 3).tolist()


def thin(matrix: np.ndarray, size: int = RDM_SIZE) -> np.ndarray:
    """Keep evenly spaced rows and columns of a square matrix."""
    kept = evenly_spaced(len(matrix), size)
    return matrix[np.ix_(kept, kept)]


def rdm_pair(features: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dissimilarity matrices of a layer and of the neuroids, on the same evenly spaced images."""
    kept = evenly_spaced(len(responses), RDM_SIZE)
    return rdm(features[kept]), rdm(responses[kept])


def evenly_spaced(n: int, size: int) -> np.ndarray:
    """Indices of at most `size` of n things, evenly spaced."""
    return np.linspace(0, n - 1, min(n, size)).round().astype(int)


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


def store(
    fresh: Results,
    path: str | os.PathLike[str],
    made: Provenance,
    context: Mapping[str, Any] | None = None,
) -> Path:
    """Add what was measured to a file of results; returns the file.

    Args:
        fresh: Records without provenance, and tables, of this call alone.
        path: `results.json`, or its folder.
        made: Where the records come from.
        context: Facts of the model to set.
    """
    file = Path(path)
    file = file if file.suffix == ".json" else file / "results.json"
    with Results.edit(file, fresh.model) as results:
        results.add(fresh.records, made)
        _update(results.extra, fresh.extra)
        results.context.update(context or {})
    return file


def _update(old: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add the entries of nested mappings; what is no mapping replaces what was there."""
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            _update(old[name], value)
        else:
            old[name] = value


def _over_splits(score: Score) -> tuple[float, float] | None:
    if len(score.raw) < 2 or not np.isfinite(score.score):
        return None
    return score.interval("splits")
