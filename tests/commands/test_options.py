"""Options that commands share: declared once, their ranges checked, devices that exist."""

from __future__ import annotations

import os

import pytest
import torch

from vitreous.device import resolve_device, resolve_workers
from vitreous.errors import VitreousError
from vitreous.ranges import FINITE, SEED, SHARE, above, at_least


def test_auto_is_a_gpu_where_there_is_one_and_processes_share_them(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device("auto", rank).index for rank in range(4)] == [0, 1, 0, 1]


def test_workers_follow_from_the_processors_of_each_model_where_they_are_auto(monkeypatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(32), raising=False)
    assert [resolve_workers(n, gpu) for n in (0, 7, "auto")] == [0, 7, 16]
    assert [resolve_workers("auto", gpu, count) for count in (4, 16, 64)] == [7, 1, 1]
    assert [resolve_workers("auto", cpu, count) for count in (1, 10, 16, 64)] == [2, 2, 0, 0]


@pytest.mark.parametrize("name", ["cuda:97", "abacus", "", "cpu:x", "meta:-5"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(VitreousError, match="cannot be used") as told:
        resolve_device(name)
    assert "\n" not in str(told.value) and "cpu" in str(told.value)


@pytest.mark.parametrize(
    ("bounds", "value", "words"),
    [
        (at_least(1), 0, "expected at least 1, found 0"),
        (at_least(0, below=1), 1.0, "expected at least 0 and below 1, found 1.0"),
        (above(0), 0.0, "expected above 0, found 0.0"),
        (SHARE, -1e-9, "expected at least 0 and at most 1, found -1e-09"),
        (FINITE, float("inf"), "expected a finite number, found inf"),
        (above(0), float("nan"), "expected above 0, found nan"),
        (SEED, 2**32, "expected at least 0 and at most 4294967295, found 4294967296"),
        (at_least(0), (0.5, -1.0), r"key\[1\]: expected at least 0, found -1.0"),
    ],
)
def test_numbers_outside_a_range_are_told(bounds, value, words: str) -> None:
    with pytest.raises(VitreousError, match=words):
        bounds.check(value, "key")


@pytest.mark.parametrize(
    ("bounds", "value"),
    [(at_least(1), 1), (above(0, at_most=2), 2), (SHARE, (0.0, 1.0)), (above(0), None)],
)
def test_numbers_within_a_range_pass(bounds, value) -> None:
    bounds.check(value, "key")
