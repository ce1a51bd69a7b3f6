"""Whether a run may go on by a recipe that differs from the one it began with."""

from __future__ import annotations

from vitreous.config import plain
from vitreous.training.adversaries.gradient import BoundedAdversary
from vitreous.training.objectives.base import WeightedObjective
from vitreous.training.recipe import Recipe

# What changes nothing of what a step computes.
FREE = frozenset(
    {
        "training.epochs",
        "training.workers",
        "training.samples",
        "training.checkpoint_every",
        "training.trackers",
        "training.gradient_checkpointing",
        "training.sharding",
        "description",
        "expect",
    }
)
POINTS = 64


def changed(before: Recipe, now: Recipe) -> dict[str, str]:
    """Keys that differ, in the recipe's order: dotted key → what was there and what is now."""
    return _changed(plain(before), plain(now))


def refusal(before: Recipe, now: Recipe) -> str:
    """Say why a run of one recipe cannot go on by another one; empty where it can.

    More epochs, other numbers of workers and samples, other trackers are no reason, unless
    something that was computed depends on how long the training is as a whole.
    """
    for key, words in changed(before, now).items():
        if key not in FREE:
            return f"{key}: {words}"
        reason = _depends_on_length(before, now) if key == "training.epochs" else ""
        if reason:
            return f"{key}: {words}, and {reason} follows from the number of epochs"
    return ""


def _depends_on_length(before: Recipe, now: Recipe) -> str:
    """What of the steps so far would have been another with the new number of epochs."""
    old, new = before.training.epochs, now.training.epochs
    rate, schedule = now.optimizer.lr, now.schedule
    points = [min(old, new) * i / POINTS for i in range(POINTS)]
    if any(schedule(rate, e, old) != schedule(rate, e, new) for e in points):
        return "the schedule"
    if isinstance(now.adversary, BoundedAdversary) and now.adversary.warmup:
        return "adversary.warmup"
    weighted = {n: o for n, o in now.objectives.items() if isinstance(o, WeightedObjective)}
    ramps = [name for name, objective in weighted.items() if objective.ramp is not None]
    return f"objectives.{ramps[0]}.ramp" if ramps else ""


def _changed(old: object, new: object, key: str = "") -> dict[str, str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(n for n in new if n not in old)]
        parts = [_changed(old.get(n), new.get(n), f"{key}.{n}" if key else n) for n in names]
        return {name: words for part in parts for name, words in part.items()}
    return {} if old == new else {key: f"{old!r} there, {new!r} now"}
