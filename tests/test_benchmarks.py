"""What benchmarks compare: a floor is of the same arithmetic as what is held to it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vitreous
from vitreous.data.batch import Batch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "relevance.py"


def operations(call: Callable[[], object]) -> int:
    """Multiplications and additions of matrix products and the like."""
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops()


@pytest.fixture(scope="module")
def script() -> dict[str, Callable[..., object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script that is run by its name
        return runpy.run_path(str(SCRIPT))


def page_of_benchmarks() -> dict[str, Any]:
    """The names of the one command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return runpy.run_path(str(SCRIPT.parent / "__main__.py"), run_name="benchmarks.page")


def test_the_floors_of_relevance_are_of_the_same_arithmetic(script) -> None:
    model = vitreous.load_model("deit_tiny_patch16_224", pretrained=False, depth=2).train()
    images, labels, rows = torch.rand(1, 3, 224, 224), torch.tensor([1]), torch.tensor([True])
    masks = torch.zeros(1, 1, 224, 224)
    masks[..., 50:150, 50:150] = 1
    batch = Batch(images, labels, masks, rows, labels)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    once = operations(lambda: model(images))
    floor = operations(lambda: script["floor_relevance"](model, images, labels))
    ours = operations(lambda: vitreous.relevance(model, images, labels))
    assert once < floor < ours < 1.01 * floor, "a forward pass and one to the activations"
    floor = operations(lambda: script["floor_step"](model, optimizer, batch))
    ours = operations(lambda: script["our_step"](model, optimizer, batch))
    assert floor < ours < 1.01 * floor


def test_the_page_tells_what_ran_and_concludes_nothing_of_a_busy_machine() -> None:
    main = page_of_benchmarks()
    result: dict[str, object] = {
        "command": "python benchmarks/relevance.py --repeats 7",
        "status": 0,
        "seconds": 3.0,
        "peak": 100,
        "others": 0.01,
        "output": "ours 0.5 s",
        "machine": "a machine",
        "versions": ["torch 0.1"],
        "when": "2026-01-01",
    }
    page = main["page"]({"relevance": {"a machine": result, "another": {**result, "others": 0.5}}})
    told, _, rest = page.partition("## relevance_memory")
    assert told.count("`python benchmarks/relevance.py --repeats 7`") == 2
    assert told.count("torch 0.1") == 1 and told.count("nothing is concluded") == 1
    assert told.count("ours 0.5 s") == 1, "no figure of a busy machine"
    assert "others had 50% of the processors" in told
    assert "2026-01-01, a machine, 3.0 s, 100 MiB at the peak; others took 1.0%" in told
    never = (
        rest.count("not yet, on any machine"),
        rest.count("no machine that was at hand has a GPU"),
    )
    assert never == (sum(not case.gpu for case in main["CASES"]) - 1, 4)
    assert "Ended with 3" in main["state"]({**result, "status": 3})


def test_a_busy_machine_leaves_what_a_quiet_one_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = page_of_benchmarks()
    case = main["Case"]("drawn", "what is drawn", figure="figure.png")
    names = main["main"].__globals__
    monkeypatch.setitem(names, "HERE", tmp_path)
    monkeypatch.setitem(names, "CASES", (case,))
    monkeypatch.setitem(names, "wait_until_quiet", lambda patience: True)
    figure, shares = tmp_path / "figure.png", {"first": 0.0, "second": 0.4}
    for turn, others in shares.items():

        def run(case: object, line: object, turn=turn, others=others) -> dict[str, object]:
            figure.write_text(turn)
            told = {"command": "c", "status": 0, "seconds": 1.0, "others": others}
            return {**told, "output": f"{turn} run", "machine": "m", "when": "today"}

        monkeypatch.setitem(names, "run", run)
        monkeypatch.setattr("sys.argv", ["benchmarks"])
        main["main"]()
    page = (tmp_path / "RESULTS.md").read_text()
    assert "first run" in page and "second run" not in page
    assert "second run" not in (tmp_path / "results.json").read_text()
    assert figure.read_text() == "first"


def test_a_case_is_left_out_where_it_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    main = page_of_benchmarks()
    why = main["reason_to_leave_out"]
    names = why.__globals__
    cases = {case.name: case for case in main["CASES"]}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert why(cases["relevance_gpu"], [], 0) == "it needs a GPU, and there is none"
    assert why(cases["attacks"], cases["attacks"].line, 0) == (
        "it needs --model and --images and --others"
    )
    monkeypatch.setitem(names, "busy_share", lambda: 0.5)
    assert why(cases["relevance"], [], 0) == "the machine was busy"
    monkeypatch.setitem(names, "busy_share", lambda: 0.01)
    assert why(cases["relevance"], [], 0) == ""
