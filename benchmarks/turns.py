"""Alternatives that take turns, so that a busy machine slows all of them alike, and their table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from memory import peaks

Work = Mapping[str, Callable[[], object]]


def wait_for(device: str) -> None:
    """Until a GPU has done what it was given; a processor has done it already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(
    work: Work,
    repeats: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    warm: bool = True,
) -> dict[str, list[float]]:
    """Seconds of each alternative in each turn, after one warm-up each (unless not `warm`)."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + warm):
        for name, call in work.items():
            wait_for(device)
            start = clock()
            call()
            wait_for(device)
            if turn or not warm:
                times[name].append(clock() - start)
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds of each alternative."""
    return {name: statistics.median(taken) for name, taken in times.items()}


def ratio(times: Mapping[str, list[float]], over: str, under: str) -> float:
    """Median of the paired ratios of two alternatives."""
    return statistics.median(a / b for a, b in zip(times[over], times[under]))


def spread(taken: list[float]) -> float:
    """Half of what lies between the quartiles, as a share of the median."""
    if len(taken) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(taken, n=4, method="inclusive")
    return (high - low) / 2 / middle


def told_spread(taken: list[float]) -> str:
    """The spread as it is printed; of one turn there is none."""
    return "one turn" if len(taken) < 2 else f"± {spread(taken):.1%}"


def floors_of(times: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """The floor of each: `floor`; of one called `…, KIND` it is `floor, KIND`, where that is."""
    kinds = {name: f"floor{''.join(name.partition(', ')[1:])}" for name in times}
    found = {name: times.get(kind, times.get("floor")) for name, kind in kinds.items()}
    return {name: taken for name, taken in found.items() if taken is not None}


def table(
    times: Mapping[str, list[float]],
    needed: Mapping[str, float],
    floors: Mapping[str, list[float]] | None = None,
    notes: Mapping[str, str] | None = None,
    base: str = "ours",
) -> list[str]:
    """A line for each alternative: seconds, spread, share of its floor, peak memory.

    Args:
        times: Of `take_turns`.
        needed: Peak MiB of each beyond what was there before; only those have a line.
        floors: Seconds of the floor of each in each turn; by default those of `floors_of`.
        notes: What else is said of some.
        base: The alternative that all are multiples of.

    Returns:
        Lines. Multiples and shares are medians of the paired ratios.
    """
    floors = floors_of(times) if floors is None else floors
    lines = []
    for name, mebibytes in needed.items():
        line = f"  {name:<22} {statistics.median(times[name]):8.3f} s {told_spread(times[name]):>8}"
        line += f"  {ratio(times, name, base):6.2f} × {base}"
        if name in floors:
            share = statistics.median(a / b for a, b in zip(floors[name], times[name]))
            line += f"  floor's share {share:5.2f}"
        line += f"  {mebibytes:7.0f} MiB"
        lines.append(f"{line}  {(notes or {}).get(name, '')}".rstrip())
    return lines


def compare(work: Work, repeats: int, device: str = "cpu") -> list[str]:
    """Time alternatives in turns, then measure their memory, apart; the lines of `table`."""
    times = take_turns(work, repeats, device)
    return table(times, peaks(work, device))
