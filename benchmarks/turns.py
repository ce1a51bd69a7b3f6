"""Alternatives that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Work = Mapping[str, Callable[[], object]]


def wait_for(device: str) -> None:
    """Until a GPU has done what it was given; a processor has done it already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(work: Work, repeats: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each alternative in each turn, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, call in work.items():
            wait_for(device)
            start = time.perf_counter()
            call()
            wait_for(device)
            if turn:
                times[name].append(time.perf_counter() - start)
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
