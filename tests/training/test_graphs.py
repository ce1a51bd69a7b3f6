"""A graph is made once: what makes it again, or keeps it from being made, is one line."""

from __future__ import annotations

import functools
import logging

import pytest
import torch
from torch import Tensor, nn

from vitreous.errors import VitreousError
from vitreous.training.graphs import MOST_AGAIN, Compilation, Graph


class Twice(nn.Module):
    """Doubles; where `told` it looks at a value, which no graph holds."""

    def __init__(self, told: bool = False):
        super().__init__()
        self.weight, self.told = nn.Parameter(torch.tensor(2.0)), told

    def forward(self, x: Tensor) -> Tensor:
        if self.told and x.sum().item() > 0:
            return self.weight * x + 0
        return self.weight * x


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines for the user; torch logs too."""
    ours = [r for r in caplog.records if r.name == "vitreous.training.graphs"]
    assert all(r.levelno == logging.WARNING and "\n" not in r.getMessage() for r in ours)
    return [r.getMessage() for r in ours]


def called(graph: Graph, x: Tensor) -> Tensor:
    result = graph(lambda: graph.module(x))
    assert torch.equal(result, 2 * x)
    return result


def test_a_graph_that_is_made_again_says_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    log = Compilation()
    graph = Graph("step", Twice(), log)
    for rows in (4, 4, 3, 4, 3):
        called(graph, torch.rand(rows, 2))
    (line,) = told(caplog)
    assert "the graph of the step was made again, in" in line
    assert "size mismatch at index 0. expected 4, actual 3" in line
    assert log.graphs == {"step": 2} and log.seconds > Compilation().seconds == 0
    assert log.values() == {"seconds": round(log.seconds, 1), "graphs": {"step": 2}}
    graph.module.weight.requires_grad_(False)
    called(graph, torch.rand(4, 2))
    assert "requires_grad" in told(caplog)[1]


def test_what_never_fits_goes_on_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    log = Compilation()
    graph = Graph("step", Twice(), log)
    for rows in range(2, 2 * MOST_AGAIN + 5):
        called(graph, torch.rand(rows, 2))
    assert log.graphs == {"step": MOST_AGAIN + 1} and len(told(caplog)) == MOST_AGAIN + 1
    assert "it runs uncompiled from here: tensor" in told(caplog)[-1]
    assert "size mismatch" in log.values()["uncompiled"]["step"]


def test_a_strict_run_ends_where_a_graph_would_be_made_again() -> None:
    graph = Graph("step", Twice(), Compilation(strict=True))
    called(graph, torch.rand(4, 2))
    called(graph, torch.rand(4, 2))
    with pytest.raises(VitreousError, match=r"would be made again: tensor 'x' .*expected 4"):
        called(graph, torch.rand(5, 2))


def test_graphs_of_other_runs_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    for size in range(10):  # more than torch makes of one function
        graph = Graph("step", Twice(), Compilation(strict=True))
        called(graph, torch.rand(4, 2 + size))
        called(graph, torch.rand(4, 2 + size))
    assert not told(caplog)


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_no_graph_is_refused_or_runs_as_it_is(
    quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log = Compilation(quiet=quiet)
    graph = Graph("adversary", Twice(told=True), log)
    for _ in range(2):
        called(graph, torch.rand(4, 2))
    assert not log.graphs and list(log.eager) == ["adversary"]
    lines = told(caplog)
    assert len(lines) == (0 if quiet else 1)
    assert all("the adversary runs uncompiled: " in line for line in lines)
    with pytest.raises(VitreousError, match=r"cannot be one graph: .*; set training.compile false"):
        called(Graph("step", Twice(told=True), log, required=True), torch.rand(4, 2))
    parts = Graph("parts", Twice(told=True), log, whole=False)
    called(parts, torch.rand(4, 2))
    assert log.graphs == {"parts": 1}


def test_a_graph_of_any_rows() -> None:
    log = Compilation(strict=True)
    graph = Graph("some rows", Twice(), log, rows_vary=True)
    for rows in (4, 2, 7):
        x = torch.rand(rows, 2)
        torch._dynamo.mark_dynamic(x, 0)
        called(graph, x)
    assert log.graphs == {"some rows": 1}
