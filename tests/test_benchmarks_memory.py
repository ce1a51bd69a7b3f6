"""What benchmarks tell of time and memory, by alternatives whose cost is known."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vitreous.allocator import keep_freed_memory

FOLDER = Path(__file__).parents[1] / "benchmarks"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def tools():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import memory
        import passes
        import turns

        yield SimpleNamespace(memory=memory, passes=passes, turns=turns)


def needs(mebibytes: int) -> float:
    """Hold so much at most, in many pieces, and give all of it back."""
    pieces = [torch.ones(MEBIBYTE // 4) for _ in range(mebibytes)]
    return float(sum(piece[0] for piece in pieces))


@pytest.mark.skipif(sys.platform != "linux", reason="the mark of the highest is Linux's")
@pytest.mark.parametrize("order", [("large", "small"), ("small", "large")])
def test_memory_is_told_the_same_whichever_comes_first(tools, order: tuple[str, str]) -> None:
    keep_freed_memory()  # what is freed stays with the process
    work = {"small": lambda: needs(20), "large": lambda: needs(220)}
    for call in work.values():
        call()
    told = tools.memory.peaks({name: work[name] for name in order})
    assert list(told) == list(order)
    assert told["large"] == pytest.approx(220, abs=8)
    assert told["small"] == pytest.approx(20, abs=8)


@pytest.mark.skipif(sys.platform != "linux", reason="the mark of the highest is Linux's")
def test_memory_is_what_lies_beyond_what_was_there(tools) -> None:
    held = [torch.ones(MEBIBYTE // 4) for _ in range(150)]
    assert tools.memory.peak(lambda: needs(30)) == pytest.approx(30, abs=8)
    assert tools.memory.high_water() > len(held)


def test_a_system_that_cannot_tell_is_not_told_of(tools, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools.memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(tools.memory, "CLEAR", tmp_path)
    assert math.isnan(tools.memory.high_water())
    assert math.isnan(tools.memory.peak(lambda: needs(1)))


def test_the_memory_of_a_command_is_its_own_and_not_of_who_starts_it(tools) -> None:
    held = [torch.ones(MEBIBYTE // 4) for _ in range(300)]
    script = "x = bytearray({} << 20)"
    small, large = (
        tools.memory.peak_of_command([sys.executable, "-c", script.format(size)])
        for size in (1, 101)
    )
    assert small < 60 < len(held)
    assert large - small == pytest.approx(100, abs=5)
    with pytest.raises(RuntimeError, match="ended with 3: no such thing"):
        tools.memory.peak_of_command(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); exit(3)"]
        )


def test_a_table_tells_median_spread_floor_and_memory_of_each(tools) -> None:
    times = {
        "ours": [2.0, 2.0, 4.0],
        "theirs": [6.0, 8.0, 4.0],
        "floor": [1.0, 1.0, 1.0],
        "ours, bf16": [1.0, 1.0, 1.0],
        "floor, bf16": [0.5, 0.5, 0.5],
    }
    needed = dict(zip(times, (10.0, 20.0, 5.0, 8.0, 4.0)))
    ours, theirs, *_, rounded, _ = tools.turns.table(times, needed, notes={"theirs": "13 left"})
    assert " ".join(ours.split()) == "ours 2.000 s ± 25.0% 1.00 × ours floor's share 0.50 10 MiB"
    assert "6.000 s" in theirs and "3.00 × ours  floor's share  0.17" in theirs
    assert theirs.endswith("20 MiB  13 left")
    assert "0.50 × ours  floor's share  0.50" in rounded
    assert "one turn" in tools.turns.table({"ours": [1.0]}, {"ours": 1.0})[0]


def test_turns_are_counted_without_the_first_which_warms_up(tools) -> None:
    order: list[str] = []
    clock = iter(range(100))
    work = {name: lambda name=name: order.append(name) for name in "ab"}
    times = tools.turns.take_turns(work, 2, clock=lambda: float(next(clock)))
    assert order == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}
    tools.turns.take_turns(work, 2, warm=False)
    assert order == ["a", "b"] * 5


def test_passes_are_counted_as_a_model_is_called(tools) -> None:
    model, images = nn.Flatten(), torch.rand(3, 1, 2, 2)

    def attack() -> None:
        model(images)
        for _ in range(4):
            seen = images[:2].clone().requires_grad_()
            torch.autograd.grad(model(seen).sum(), seen)
        with torch.no_grad():
            model(images.clone().requires_grad_())

    assert tools.passes.count(model, attack) == (6, 8)
    assert not model._forward_pre_hooks, "the counting has ended"
    passing = tools.passes.bare(model, images, 2)
    counted = [tools.passes.count(model, call) for call in passing.values()]
    assert counted == [(3, 0), (0, 3)]
    times = {"forward, b": [1.0, 2.0], "forward and backward, b": [3.0, 6.0]}
    assert tools.passes.floor((6, 8), 3, times, ", b") == [2 + 8, 4 + 16]
