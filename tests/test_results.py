"""A record says what it belongs to; no measurement replaces another one."""

from __future__ import annotations

import copy
import dataclasses
import json
import multiprocessing
import os
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vitreous import VitreousError
from vitreous.io import read_json_lines, write_json
from vitreous.provenance import Provenance, hardware, hardware_text, provenance
from vitreous.results import (
    Record,
    Results,
    accuracy_record,
    difference_interval,
    wilson_interval,
)

MADE = Provenance("evaluate", "run", "f1", "vitreous evaluate run", 0, "2026-01-01T00:00:00+00:00")
BASE = Record("shifts", "val", "top1", 0.5, 10, (0.2, 0.8), {"angle": 90}, "/data/a/val", MADE)


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "clean"},
        {"dataset": "other"},
        {"metric": "top5"},
        {"n": 3},
        {"settings": {"angle": 180}},
        {"settings": {"angle": "90"}},
        {"source": "/data/b/val"},
        {"provenance": dataclasses.replace(MADE, kind="attack")},
        {"provenance": dataclasses.replace(MADE, model="other")},
        {"provenance": dataclasses.replace(MADE, fingerprint="f2")},
        {"provenance": dataclasses.replace(MADE, seed=1)},
    ],
    ids=lambda change: "_".join(change),
)
def test_a_measurement_replaces_none_that_differs_in_what_it_depends_on(change):
    other = dataclasses.replace(BASE, value=0.9, **change)
    results = Results("run", [BASE])
    results.add([other])
    assert results.records == [BASE, other]


def test_the_same_measured_again_replaces_the_old_value():
    later = dataclasses.replace(MADE, when="2026-02-01T00:00:00+00:00", seconds=3)
    results = Results("run", [BASE])
    results.add([dataclasses.replace(BASE, value=0.9, provenance=later)])
    assert [r.value for r in results.records] == [0.9]


def test_of_one_topic_the_fullest_of_the_newest_weights_is_current():
    few = dataclasses.replace(MADE, when="2026-03-01T00:00:00+00:00")
    small = dataclasses.replace(BASE, n=3, value=0.1, provenance=few)
    results = Results("run", [BASE, small])
    assert results.current() == [BASE] == results.find(metric="top1", angle=90)
    retrained = dataclasses.replace(few, fingerprint="f2", when="2026-03-02T00:00:00+00:00")
    newer = dataclasses.replace(small, provenance=retrained)
    results.add([newer])
    assert results.current() == [newer]
    assert len(results.records) == 3


def test_of_two_of_one_second_the_one_that_was_added_last_is_current():
    """A quick command measures anew what another one has just measured."""
    again = dataclasses.replace(BASE, provenance=dataclasses.replace(MADE, kind="attack"))
    for first, second in ((BASE, again), (again, BASE)):
        results = Results("run", [first])
        results.add([second])
        assert len(results.records) == 2 and results.current() == [second]


def test_a_later_command_leaves_provenance_and_context_of_the_first(tmp_path):
    first = dataclasses.replace(MADE, kind="train", command="vitreous train x", seed=3)
    Results.update(tmp_path, [Record("training", "v", "top1", 1)], first, context={"epochs": 2})
    Results.update(tmp_path, [Record("clean", "v", "top1", 0.5)], MADE)
    read = Results.read(tmp_path)
    assert [r.provenance.command for r in read.records] == [
        "vitreous train x",
        "vitreous evaluate run",
    ]
    assert [r.provenance.seed for r in read.records] == [3, 0]
    assert read.context == {"epochs": 2} and read.model == "run"


def test_what_is_written_is_read_back(tmp_path):
    results = Results("m", [BASE, Record("x", "", "y", float("nan"))], {"a": 1}, {"b": [1]})
    results.write(tmp_path / "results.json")
    read = Results.read(tmp_path)
    assert read.records[0] == BASE and read.context == {"a": 1} and read.extra == {"b": [1]}
    assert read.records[1].value != read.records[1].value


def test_a_file_of_the_first_version_is_read(tmp_path):
    record = {"suite": "clean", "dataset": "d", "metric": "top1", "value": 0.5, "n": 4}
    old = {"version": 1, "model": "m", "records": [{**record, "ci95": [0.1, 0.9], "settings": {}}]}
    write_json(tmp_path / "results.json", {**old, "context": {"seed": 1}, "extra": {}})
    read = Results.read(tmp_path)
    assert read.records == [Record("clean", "d", "top1", 0.5, 4, (0.1, 0.9))]
    assert read.context == {"seed": 1}


def test_a_table_of_fewer_items_does_not_replace_a_fuller_one():
    results = Results("m")
    results.add_extra({"evaluation": {"val": {"n": 100, "per_class": {"n": [100]}}}})
    results.add_extra({"evaluation": {"val": {"n": 3, "per_class": {"n": [3]}, "curve": [1]}}})
    results.add_extra({"evaluation": {"other": {"n": 2}}})
    assert results.extra["evaluation"] == {
        "val": {"n": 100, "per_class": {"n": [100]}, "curve": [1]},
        "other": {"n": 2},
    }
    results.add_extra({"evaluation": {"val": {"n": 4, "fingerprint": "new", "curve": [2]}}})
    assert results.extra["evaluation"]["val"]["n"] == 4
    results.add_extra({"evaluation": {"val": {"n": 4, "fingerprint": "new", "curve": [3]}}})
    assert results.extra["evaluation"]["val"]["curve"] == [3]


def entry(place: str, value: int, **more: object) -> dict[str, object]:
    return {"name": "val", "place": place, "value": value, **more}


def test_an_entry_goes_to_what_it_belongs_to_whatever_it_is_called():
    """Measured beside another set of its name, then alone, then the other way round."""
    results = Results("m")
    results.add_extra({"e": {"val (/a)": entry("/a", 1), "val (/b)": entry("/b", 2)}})
    results.add_extra({"e": {"val": entry("/a", 3)}})
    results.add_extra({"e": {"val": entry("/b", 4)}})
    assert {e["place"]: e["value"] for e in results.extra["e"].values()} == {"/a": 3, "/b": 4}
    assert len(results.extra["e"]) == 2
    results.add_extra({"e": {"val": entry("/a", 5, settings={"view": "16", "map": "x"})}})
    results.add_extra({"e": {"val": entry("/a", 6, settings={"map": "x", "view": "16"})}})
    assert sorted(e["value"] for e in results.extra["e"].values()) == [3, 4, 6]
    results.add_extra({"e": {"val": entry("/a", 7, settings={"view": "16"})}})
    assert results.extra["e"]["val (/a, view 16)"]["value"] == 7


def test_an_entry_of_other_weights_is_replaced_whole():
    results = Results("m")
    old = {"n": 9, "fingerprint": "old", "rotation": {"angle": [90]}, "curve": [1]}
    results.add_extra({"e": {"val": old}})
    results.add_extra({"e": {"val": {"n": 4, "fingerprint": "new", "curve": [2]}}})
    assert results.extra["e"]["val"] == {"n": 4, "fingerprint": "new", "curve": [2]}


def test_warnings_of_a_record_are_kept_and_go_with_it(tmp_path):
    record = accuracy_record("attack", "val", "top1", 1, 2)
    warned = dataclasses.replace(record, warnings=("gradients vanish", "few images"))
    Results.update(tmp_path, [warned, accuracy_record("clean", "val", "top1", 1, 2)], MADE)
    assert [r.warnings for r in Results.read(tmp_path).records] == [warned.warnings, ()]
    assert (tmp_path / "results.json").read_text().count("warnings") == 1
    Results.update(tmp_path, [record], MADE)
    assert not any(r.warnings for r in Results.read(tmp_path).records)


def _write(folder: Path, writer: int) -> None:
    for i in range(20):
        Results.update(folder, [accuracy_record(f"s{writer}", f"d{i}", "top1", 1, 2)], MADE)


def test_two_writers_lose_no_record(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(Results.read(tmp_path).records) == 60


def test_hardware_names_each_gpu_and_its_memory(monkeypatch):
    card = SimpleNamespace(name="NVIDIA H200", total_memory=150_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    told = hardware()
    assert told["gpu"] == [{"name": "NVIDIA H200", "memory_gb": 139.7}] * 2
    assert "NVIDIA H200" in hardware_text(told)


def test_provenance_names_processor_memory_and_moment(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/vitreous", "evaluate", "a b"])
    made = provenance("evaluate", model="m", fingerprint="f", seed=2, seconds=1.26)
    assert made.command == "vitreous evaluate 'a b'" and made.seconds == 1.3
    monkeypatch.setattr("sys.argv", ["/lib/vitreous/cli.py", "train", "x"])  # -m vitreous.cli
    assert provenance("train", model="m", fingerprint="f").command == "vitreous train x"
    assert made.when.endswith("+00:00") and made.versions["python"] == platform.python_version()
    described = hardware()
    assert described["cores"] == os.cpu_count() and described["torch_threads"] >= 1
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "model name" in cpuinfo.read_text(encoding="utf-8"):
        assert described["processor"] in " ".join(cpuinfo.read_text(encoding="utf-8").split())
    card = {"gpu": [{"name": "H100", "memory_gb": 80.0}], "processor": "CPU", "cores": 2}
    assert hardware_text(card) == "CPU, 2 cores, H100 (80 GiB)"


GOOD: dict[str, Any] = {
    "version": 2,
    "model": "m",
    "records": [
        {
            **{"suite": "s", "dataset": "d", "metric": "t", "value": 0.5, "n": 2},
            **{"ci95": [0, 1], "settings": {}, "source": "", "provenance": "p"},
        }
    ],
    "provenance": {"p": {"kind": "evaluate", "seed": 0, "hardware": {}, "versions": {}}},
    "context": {},
    "extra": {},
}
WRONG: list[tuple[tuple[str | int, ...], Any]] = [
    ((), []),
    ((), "text"),
    ((), None),
    (("version",), None),
    (("version",), "2"),
    (("version",), 99),
    (("version",), True),
    (("version",), {}),
    (("model",), None),
    (("model",), 3),
    (("records",), None),
    (("records",), {}),
    (("records",), "x"),
    (("records", 0), None),
    (("records", 0), []),
    (("records", 0, "suite"), 1),
    (("records", 0, "dataset"), None),
    (("records", 0, "metric"), ["top1"]),
    (("records", 0, "value"), "0.5"),
    (("records", 0, "value"), True),
    (("records", 0, "value"), [0.5]),
    (("records", 0, "value"), 10**400),
    (("records", 0, "n"), 2.5),
    (("records", 0, "n"), -1),
    (("records", 0, "n"), "2"),
    (("records", 0, "ci95"), 0.5),
    (("records", 0, "ci95"), [0.1]),
    (("records", 0, "ci95"), ["a", "b"]),
    (("records", 0, "settings"), []),
    (("records", 0, "unknown"), 1),
    (("records", 0, "provenance"), "q"),
    (("records", 0, "provenance"), {}),
    (("provenance",), []),
    (("provenance", "p"), 3),
    (("provenance", "p", "seed"), "x"),
    (("provenance", "p", "when"), 5),
    (("context",), []),
    (("extra",), "x"),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=str)
def test_results_of_wrong_types_are_refused_in_one_line(place, value, tmp_path):
    raw: Any = copy.deepcopy(GOOD)
    write_json(tmp_path / "results.json", raw)
    Results.read(tmp_path)
    part = raw
    for key in place[:-1]:
        part = part[key]
    if place:
        part[place[-1]] = value
    (tmp_path / "results.json").write_text(json.dumps(raw if place else value))
    with pytest.raises(VitreousError, match=r"results\.json") as caught:
        Results.read(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["suite", "dataset", "metric", "value"])
def test_a_record_without_what_it_needs_is_refused(name, tmp_path):
    raw = copy.deepcopy(GOOD)
    del raw["records"][0][name]
    write_json(tmp_path / "results.json", raw)
    with pytest.raises(VitreousError, match=f"record 1: '{name}' is missing"):
        Results.read(tmp_path)


def test_deep_nesting_is_refused_in_one_line(tmp_path):
    (tmp_path / "results.json").write_text("[" * 200_000)
    with pytest.raises(VitreousError, match="not valid JSON"):
        Results.read(tmp_path)


def test_lines_of_json_end_where_a_kill_cut_them(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(file) == [{"a": 1}, {"a": 2}]
    assert read_json_lines(tmp_path / "none") == []
    for text, told in (('{"a"\n{"a": 2}\n', "line 1 is not JSON"), ("[1]\n", "line 1: expected")):
        file.write_text(text)
        with pytest.raises(VitreousError, match=told):
            read_json_lines(file)


def test_intervals_are_those_of_newcombes_tables() -> None:
    """Newcombe 1998, Statistics in Medicine 17: 81 of 263 (857), table II (a), method 10 (873)."""
    first, base = (accuracy_record("", "", "", *of) for of in ((56, 70), (48, 80)))
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert difference_interval(first, base) == pytest.approx((0.0524, 0.3339), abs=5e-5)
