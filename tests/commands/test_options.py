"""Options that commands share: declared once, their ranges checked, devices that exist."""

from __future__ import annotations

import pytest
import torch

from vitreous.commands.options import resolve_device
from vitreous.errors import VitreousError
from vitreous.ranges import FINITE, SEED, SHARE, above, at_least


def test_auto_is_a_gpu_where_there_is_one_and_processes_share_them(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [resolve_device("auto", rank).index for rank in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["cuda:97", "gpu", "", "cpu:x", "meta:-5"])
def test_a_device_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(VitreousError, match="there is no device") as told:
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
