"""What came out, in words and in a table, from the results alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.demo.measure import NORMAL, SHIFTED
from vitreous.report.values import signed
from vitreous.results import Record, Results, difference_interval

COLUMNS = {
    "normal": {"suite": "clean", "metric": "top1"},
    "shifted": {"suite": "shifts", "dataset": SHIFTED, "metric": "top1"},
    "PGD 4/255": {"suite": "attack", "epsilon": 4 / 255},
    "turned 90°": {"suite": "rotation", "angle": 90},
    "on the object": {"suite": "explanation", "dataset": NORMAL, "metric": "foreground_share"},
}


def results_table(models: Sequence[Results]) -> str:
    """One line a model: each measure in percent, with its 95 % interval."""
    head = f"{'model':<20}" + "".join(f"{name:>20}" for name in COLUMNS)
    lines = [
        f"{model.model:<20}" + "".join(f"{_cell(find(model, name)):>20}" for name in COLUMNS)
        for model in models
    ]
    return "\n".join([head, *lines])


def find(model: Results, column: str) -> Record | None:
    """The record of a column, if it was measured."""
    return next(iter(model.find(**COLUMNS[column])), None)


def _cell(record: Record | None) -> str:
    if record is None:
        return "–"
    low, high = record.ci95 or (math.nan, math.nan)
    return f"{100 * record.value:.1f} ({100 * low:.0f}–{100 * high:.0f})"


def summary(models: Sequence[Results]) -> str:
    """Say what the shortcut costs and what each way out of it gained, good or bad, in lines.

    Args:
        models: The model with the shortcut, then the finetuned ones.
    """
    first = models[0]
    normal, shifted = find(first, "normal"), find(first, "shifted")
    if normal is None or shifted is None:
        return ""
    cost = 100 * (normal.value - shifted.value)
    lines = [
        (f"The shortcut costs {cost:.0f} points: " if cost >= 0.5 else "No shortcut shows: ")
        + f"{100 * normal.value:.0f} % right where the tag fits the object, "
        f"{100 * shifted.value:.0f} % on the same objects with the tag of another class. What "
        "each finetuning changed there, with 95 % intervals:"
    ]
    for model in models[1:]:
        record = find(model, "shifted")
        if record is not None:
            lines.append(f"- {model.model}: {_compared(record, shifted)}")
    names = {model.model: find(model, "shifted") for model in models[1:]}
    guided, plain = names.get("guided"), names.get("finetuned plainly")
    if guided is not None and plain is not None:
        lines.append(f"- guided against plain finetuning: {_compared(guided, plain)}")
    shares = find(first, "on the object"), find_named(models, "guided", "on the object")
    if shares[0] is not None and shares[1] is not None:
        lines.append(
            f"The share of relevance on the object went from {100 * shares[0].value:.0f} to "
            f"{100 * shares[1].value:.0f} % by guidance."
        )
    return "\n".join(lines).replace(" %", "\N{NO-BREAK SPACE}%")


def duration_words(models: Sequence[Results]) -> str:
    """Say how long training and measuring took, from the provenance of the records."""
    made = {r.provenance.identity: r.provenance for model in models for r in model.records}
    # A training's records are of two models, before and after, in the same time.
    times = {(p.kind, p.model, p.when): p.seconds for p in made.values() if p.seconds is not None}
    if not times:
        return ""
    trained = sum(seconds for (kind, *_), seconds in times.items() if kind == "train")
    measured = sum(times.values()) - trained
    return f"Training took {trained:.0f} s in all, and measuring {measured:.0f} s."


def find_named(models: Sequence[Results], name: str, column: str) -> Record | None:
    """The record of a column of the model with that name, if there is one."""
    return next((find(model, column) for model in models if model.model == name), None)


def _compared(record: Record, base: Record) -> str:
    gain = 100 * (record.value - base.value)
    low, high = (100 * end for end in difference_interval(record, base))
    if low > 0:
        judged = "a gain"
    elif high < 0:
        judged = "a loss"
    else:
        judged = "no clear change"
    ends = f"{signed(low, 1)} to {signed(high, 1)}"
    return f"{signed(gain, 1)} points ({ends}), {judged}"
