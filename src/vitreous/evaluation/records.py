"""From rows to records and to the entries of `Results.extra["evaluation"]`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitreous.evaluation.metrics import calibration, mean_corruption_error
from vitreous.evaluation.prediction import Predictions
from vitreous.evaluation.scoring import READ
from vitreous.evaluation.test_sets.base import class_map
from vitreous.results import Record, accuracy_record, wilson_interval

NAMED_FILES = 100


def accuracy_records(found: Predictions, overridden: dict[str, Any] | None = None) -> list[Record]:
    """Top-1 and top-5 under each convention, and under the first: by class, NLL, ECE, unreadable.

    Pictures that could not be read, or whose logits were not finite, count as wrong. NLL and ECE
    are over the others.

    Args:
        found: The answers on one set.
        overridden: Settings to name where the preprocessing is not the model's own.
    """
    test_set, records = found.test_set, []
    for i, convention in enumerate(found.conventions):
        counted = found.counted_by(i)
        n = int(counted.sum())
        if i and not n:
            continue
        settings = {"convention": convention.name, **test_set.settings, **(overridden or {})}
        suite, name = test_set.suite, test_set.name
        for top in (1, 5) if convention.groups is None else (1,):
            right = int((found.correct(i, top) & counted).sum())
            records.append(accuracy_record(suite, name, f"top{top}", right, n, **settings))
        if i == 0:
            records += _headline_records(found, settings)
    return records


def _headline_records(found: Predictions, settings: dict[str, Any]) -> list[Record]:
    test_set, counted = found.test_set, found.counted
    suite, name = test_set.suite, test_set.name
    read = counted & (found.rows["status"] == READ)
    bad = int((found.rows["status"] != READ).sum())
    records = [Record(suite, name, "unreadable", bad, len(found.rows), None, settings)]
    if counted.any():
        right, total = by_target(found)
        mean = float((right[total > 0] / total[total > 0]).mean())
        records.append(
            Record(suite, name, "class_mean_top1", mean, int(counted.sum()), None, settings)
        )
    nll = found.rows["nll"][read].astype(np.float64)
    if len(nll) and np.isfinite(nll).all():
        error = math.sqrt(float(nll.var()) / len(nll)) * 1.959963984540054
        interval = (float(nll.mean()) - error, float(nll.mean()) + error)
        records.append(Record(suite, name, "nll", float(nll.mean()), len(nll), interval, settings))
    if read.any():
        curve = calibration(found.rows["confidence"][read], found.correct()[read])
        records.append(Record(suite, name, "ece", curve.error, len(nll), None, settings))
    return records


def by_target(found: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Count right answers and pictures of each target, under the first convention."""
    targets = found.test_set.targets[found.rows["index"]][found.counted]
    length = len(found.test_set.accepted)
    right = np.bincount(targets[found.correct()[found.counted]], minlength=length)
    return right, np.bincount(targets, minlength=length)


def corruption_records(parts: Sequence[Predictions]) -> list[Record]:
    """mCE, mean error and mean top-1 of ImageNet-C from its parts.

    mCE is over the 15 corruptions of the paper and is left out where one of them, or a severity,
    is missing; the mean error is over the corruptions that are there (the 4 extra ones apart).
    """
    table = corruption_table(parts)
    facts = class_map("imagenet_c")
    paper = [c for g in ("noise", "blur", "weather", "digital") for c in facts["groups"][g]]
    errors = {
        c: e for c, e, n in zip(table["corruption"], table["error"], table["n"]) if c in paper
    }
    whole = len(errors) == len(paper) and table["severity"] == [1, 2, 3, 4, 5]
    count = int(sum(len(p.rows) for p in parts if p.test_set.settings["corruption"] in paper))
    settings: dict[str, Any] = {
        "convention": parts[0].conventions[0].name,
        "corruptions": len(errors),
        "severities": len(table["severity"]),
    }
    if not errors:
        return []
    mean = float(np.mean(list(errors.values())))
    records = [
        Record("shifts", "imagenet-c", "top1", 1 - mean, count, None, settings),
        Record("shifts", "imagenet-c", "mean_error", mean, count, None, settings),
    ]
    if whole:
        mce = mean_corruption_error(errors, facts["alexnet_error"])
        records.append(Record("shifts", "imagenet-c", "mce", mce, count, None, settings))
    return records


def corruption_table(parts: Sequence[Predictions]) -> dict[str, Any]:
    """Accuracy by corruption and severity, as `vitreous.evaluation` describes it."""
    cells = {(p.test_set.settings["corruption"], p.test_set.settings["severity"]): p for p in parts}
    corruptions = list(dict.fromkeys(c for c, _ in cells))
    severities = sorted({s for _, s in cells})

    def accuracy(corruption: str, severity: int) -> float | None:
        cell = cells.get((corruption, severity))
        return None if cell is None else float(cell.correct()[cell.counted].mean())

    top1 = [[accuracy(c, s) for s in severities] for c in corruptions]
    known = class_map("imagenet_c")["alexnet_error"]
    return {
        "corruption": corruptions,
        "severity": severities,
        "top1": top1,
        "n": [
            [len(cells[c, s].rows) if (c, s) in cells else 0 for s in severities]
            for c in corruptions
        ],
        "error": [1 - float(np.mean([v for v in row if v is not None])) for row in top1],
        "alexnet_error": [known.get(c) for c in corruptions],
    }


def shape_bias_records(found: Predictions) -> tuple[list[Record], dict[str, Any]]:
    """Shape bias: of the answers that are the shape or the texture, the share of shape.

    Geirhos et al. 2019: ImageNet-trained CNNs are biased towards texture.
    """
    test_set = found.test_set
    if test_set.second is None:
        return [], {}
    answers = found.rows["prediction0"]
    shapes = test_set.targets[found.rows["index"]]
    textures = test_set.second[found.rows["index"]]
    shape, texture = answers == shapes, answers == textures
    decided = int((shape | texture).sum())
    settings = {"convention": found.conventions[0].name}
    record = accuracy_record(
        test_set.suite, test_set.name, "shape_bias", int(shape.sum()), decided, **settings
    )

    def count(where: np.ndarray) -> list[int]:
        return np.bincount(shapes[where], minlength=len(test_set.target_names)).tolist()

    table = {
        "category": list(test_set.target_names),
        "shape": count(shape),
        "texture": count(texture),
        "other": count(~shape & ~texture),
    }
    return [record], {"shape_bias": table}


def curve_records(
    base: Predictions, changed: Sequence[Predictions]
) -> tuple[list[Record], dict[str, Any]]:
    """Records and curves of changed views: turns (with invariance), noise and blur.

    Curves of turns begin with the unchanged pictures, at angle 0 (with `disc`, what is turned is
    another picture, and `changed` holds its own angle 0).

    Args:
        base: Answers on the unchanged pictures.
        changed: Answers on the same pictures after each change.
    """
    name, records = base.test_set.name, []
    convention = {"convention": base.conventions[0].name}
    turned = [p for p in changed if "angle" in p.change]
    if turned and not any(p.change["angle"] == 0 for p in turned):
        turned.insert(0, dataclasses.replace(base, change={"angle": 0.0}))
    base = next((p for p in turned if p.change["angle"] == 0), base)
    angles: dict[str, list[Any]] = {k: [] for k in (*CURVE, "same_prediction")} | {"angle": []}
    for part in turned:
        right, n = int(part.correct()[part.counted].sum()), int(part.counted.sum())
        same = _same(base, part)
        settings = {**convention, **part.change}
        records.append(accuracy_record("rotation", name, "top1", right, n, **settings))
        if part is not base:
            records.append(
                accuracy_record(
                    "rotation", name, "invariance", int(same.sum()), len(same), **settings
                )
            )
        angles["angle"].append(part.change["angle"])
        angles["same_prediction"].append(float(same.mean()))
        _extend(angles, right, n)
    records += _invariance(base, turned, convention)
    perturbed = [p for p in changed if "corruption" in p.change]
    levels: dict[str, list[Any]] = {k: [] for k in (*CURVE, "kind", "severity")}
    for part in perturbed:
        right, n = int(part.correct()[part.counted].sum()), int(part.counted.sum())
        settings = {**convention, **part.change}
        records.append(accuracy_record("corruptions", name, "top1", right, n, **settings))
        levels["kind"].append(part.change["corruption"])
        levels["severity"].append(part.change["severity"])
        _extend(levels, right, n)
    extra = {"rotation": angles} if turned else {}
    return records, {**extra, **({"perturbations": levels} if perturbed else {})}


CURVE = ("top1", "low", "high", "n")


def _extend(curve: dict[str, list[Any]], right: int, n: int) -> None:
    low, high = wilson_interval(right, n)
    for key, value in zip(CURVE, (right / max(n, 1), low, high, n)):
        curve[key].append(value)


def _same(base: Predictions, other: Predictions) -> np.ndarray:
    """(N,) bool: the prediction is the same; unreadable pictures do not count."""
    read = base.rows["status"] == READ
    return (base.rows["prediction0"] == other.rows["prediction0"])[read]


def _invariance(
    base: Predictions, turned: Sequence[Predictions], convention: dict[str, Any]
) -> list[Record]:
    """Share of pictures whose prediction is one and the same at 0, 90, 180 and 270 degrees."""
    quarters = {p.change["angle"] % 360: p for p in turned}
    if not {90.0, 180.0, 270.0} <= set(quarters):
        return []
    same = np.logical_and.reduce([_same(base, quarters[a]) for a in (90.0, 180.0, 270.0)])
    return [
        accuracy_record(
            "rotation",
            base.test_set.name,
            "invariance",
            int(same.sum()),
            len(same),
            angles="0, 90, 180, 270",
            **convention,
            **({"disc": True} if base.change.get("disc") else {}),
        )
    ]


def factor_tables(found: Predictions) -> list[dict[str, Any]]:
    """Accuracy for each value of what a generated set varies."""
    tables = []
    for name, values in found.test_set.factors.items():
        own = values[found.rows["index"]]
        distinct = sorted(set(own.tolist()), key=_number)
        where = [own == value for value in distinct]
        tables.append(
            {
                "name": name,
                "value": [_number(v)[1] if _number(v)[0] == 0 else v for v in distinct],
                "top1": [float(found.correct()[w].mean()) for w in where],
                "n": [int(w.sum()) for w in where],
            }
        )
    return tables


def _number(text: str) -> tuple[int, float, str]:
    """Sort numbers by value and before other text."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)


def entry_of(found: Predictions) -> dict[str, Any]:
    """The entry of one set in `Results.extra`, without pictures and curves."""
    test_set, rows = found.test_set, found.rows
    counted = found.counted & (rows["status"] == READ)
    right, total = by_target(found)
    shown = np.flatnonzero(total)
    names = test_set.target_names or tuple(map(str, range(len(test_set.accepted))))
    bad = rows["index"][rows["status"] != READ]
    curve = calibration(rows["confidence"][counted], found.correct()[counted])
    entry: dict[str, Any] = {
        "source": test_set.source,
        "n": len(rows),
        "preprocessing": dataclasses.asdict(found.preprocessing),
        "convention": found.conventions[0].name,
        "unreadable": {
            "count": len(bad),
            "files": [
                {
                    "file": test_set.dataset.name(int(i)),
                    "reason": found.reasons.get(int(i), "the logits are not finite"),
                }
                for i in bad[:NAMED_FILES]
            ],
        },
        "per_class": {
            "class": shown.tolist(),
            "name": [names[i] for i in shown],
            "n": total[shown].tolist(),
            "correct": right[shown].tolist(),
        },
        "calibration": {
            key: getattr(curve, key).tolist() for key in ("edges", "n", "confidence", "accuracy")
        },
    }
    if tables := factor_tables(found):
        entry["factors"] = max(tables, key=lambda table: len(table["value"]))
        entry["all_factors"] = tables
    return entry
