"""Which of several measurements a card shows, under which name, and with what it is compared."""

from __future__ import annotations

import dataclasses
import json

import pytest
from scipy.stats import binomtest

from helpers import make_run
from vitreous import VitreousError
from vitreous.demo.words import duration_words
from vitreous.provenance import Provenance
from vitreous.report import figures, write_card
from vitreous.report.charts import Chart
from vitreous.report.figures.accuracy import robustness_figures
from vitreous.report.figures.evaluation import calibration_figures, shape_figures
from vitreous.report.sources import Source, read_sources
from vitreous.report.tables import facts, rows
from vitreous.results import Record, Results, accuracy_record

MADE = Provenance(
    "evaluate", "m", "f1", "vitreous evaluate m", 7, "2026-01-01T00:00:00+00:00", 12.5
)


def later(**changes) -> Provenance:
    return dataclasses.replace(MADE, when="2026-01-02T00:00:00+00:00", **changes)


def values(*records: tuple[Record, Provenance]) -> list[float]:
    results = Results("m")
    for record, made in records:
        results.add([record], made)
    return [row.values[0].value for row in rows(read_sources([results]))]


def test_a_limited_run_does_not_hide_the_whole_one():
    whole, few = (
        accuracy_record("clean", "d", "top1", 50, 100),
        accuracy_record("clean", "d", "top1", 3, 3),
    )
    assert values((whole, MADE), (few, later())) == [0.5]
    assert values((few, MADE), (whole, later())) == [0.5]
    assert values((whole, MADE), (few, later(fingerprint="f2"))) == [1.0]


def test_two_states_of_the_weights_are_told():
    results = Results("m")
    results.add([accuracy_record("clean", "d", "top1", 5, 10)], MADE)
    (source,) = read_sources([results])
    assert source.remarks == []
    results.add([accuracy_record("clean", "e", "top1", 5, 10)], later(fingerprint="f2"))
    (source,) = read_sources([results])
    assert "2 states of the model (f1, f2)" in source.remarks[0]


def test_tables_of_one_set_measured_beside_others_and_alone_are_one():
    """A set that was named with its place once, and without it once, is the same set."""
    record = accuracy_record("clean", "val", "top1", 5, 10)
    results = Results("m", [dataclasses.replace(record, source="/data/a/val")])
    results.extra["evaluation"] = {
        "val (/data/a/val)": {"place": "/data/a/val", "rotation": {"angle": [0]}},
        "val": {"place": "/data/a/val", "calibration": {"n": [4]}},
    }
    (source,) = read_sources([results])
    (entry,) = source.results.extra["evaluation"].values()
    assert entry["rotation"] == {"angle": [0]} and entry["calibration"] == {"n": [4]}


def test_sets_of_one_name_are_told_apart_by_their_places():
    results = Results("m")
    for place in ("/data/a/val", "/data/b/val"):
        record = accuracy_record("clean", "val", "top1", 5, 10)
        results.add([dataclasses.replace(record, source=place)], MADE)
    results.add([accuracy_record("shifts", "other", "top1", 5, 10)], MADE)
    assert [row.dataset for row in rows(read_sources([results]))] == ["a/val", "b/val", "other"]


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    runs = [make_run(tmp_path / place / "run", "vit") for place in ("x", "y")]
    assert [s.name for s in read_sources(runs)] == ["x/run", "y/run"]
    with pytest.raises(VitreousError, match="cannot be told apart"):
        read_sources([runs[0], runs[0]])


def test_every_command_is_among_the_facts_with_time_and_machine(tmp_path):
    hardware = {"processor": "Quick 9000", "cores": 4, "memory_gb": 16.0, "torch_threads": 1}
    train = later(kind="train", command="vitreous train x", seed=3, hardware=hardware)
    results = Results("m", context={"base_model": "vit_small"})
    results.add([Record("training", "v", "top1", 0.5)], train)
    results.add([Record("clean", "v", "top1", 0.5)], MADE)
    table = {name: value[0] for name, value in facts(read_sources([results]))}
    assert table["train: command"] == "vitreous train x" and table["train: seed"] == "3"
    assert table["train: hardware"] == "Quick 9000, 4 cores, 16 GiB, 1 torch thread"
    assert table["evaluate: seconds"] == "12.5" and table["evaluate: seed"] == "7"
    assert table["base_model"] == "vit_small"
    text = write_card([results], tmp_path / "card.html").read_text()
    assert "Quick 9000" in text and "2026-01-01T00:00:00+00:00" in text


def test_every_shifted_set_is_named_in_its_row_with_an_interval():
    results = Results("m")
    results.add([accuracy_record("clean", "photos", "top1", 970, 1000)])
    names = [f"shift-{i}" for i in range(12)]
    results.add(accuracy_record("shifts", n, "top1", 960 + i, 1000) for i, n in enumerate(names))
    (figure,) = [f for f in figures.measured(read_sources([results])) if "shifted" in f.key]
    assert figure.categories == ["photos (clean)", *names]
    assert all(figure.series[0].interval(i) is not None for i in range(13))


def test_losses_of_other_objectives_have_axes_of_their_own(tmp_path):
    runs = [make_run(tmp_path / name, name) for name in "abc"]
    for run, weights in zip(
        runs, ({"classification": 1.0}, {"relevance": 0.8}, {"classification": 1.0})
    ):
        results = Results.read(run)
        objectives = {name: {"weight": weight} for name, weight in weights.items()}
        results.context["recipe"] = {"objectives": objectives}
        results.write(run / "results.json")
    drawn = [f for f in figures.training(read_sources(runs)) if f.key.startswith("training_loss")]
    assert [f.title for f in drawn] == ["loss: 1 · classification", "loss: 0.8 · relevance"]
    assert [{s.group for s in f.series} for f in drawn] == [{"a", "c"}, {"b"}]
    top1 = [f for f in figures.training(read_sources(runs)) if f.key == "training_top1"]
    assert {s.group for s in top1[0].series} == {"a", "b", "c"}


def test_the_demos_times_are_those_of_the_records(tmp_path):
    results = Results("m")
    train = dataclasses.replace(MADE, kind="train", seconds=40.0)
    results.add([Record("training", "v", "loss", 1, settings={"moment": "before"})], train)
    after = dataclasses.replace(train, fingerprint="other")
    results.add([Record("training", "v", "loss", 1, settings={"moment": "after"})], after)
    results.add([Record("clean", "v", "top1", 1)], dataclasses.replace(MADE, kind="demo"))
    results.write(tmp_path / "results.json")
    assert duration_words([Results.read(tmp_path)]) == (
        "Training took 40 s in all, and measuring 12 s."
    )
    raw = json.loads((tmp_path / "results.json").read_text())
    raw["records"] = []
    (tmp_path / "results.json").write_text(json.dumps(raw))
    assert duration_words([Results.read(tmp_path)]) == ""


def test_attacks_of_other_settings_share_no_line():
    """Three steps on few images beside five on more: neither is the other's weaker point."""
    results = Results("run")
    for steps, n, right in ((3, 20, (12, 3, 1)), (5, 24, (19, 5, 2))):
        settings = {"attack": "pgd", "norm": "linf", "steps": steps}
        results.add(
            accuracy_record("attack", "val", "robust_accuracy", k, n, epsilon=e / 255, **settings)
            for e, k in enumerate(right)
        )
    charts = robustness_figures([Source(results)])
    values = {chart.title: list(chart.series[0].y) for chart in charts if isinstance(chart, Chart)}
    assert values == {
        "Accuracy under attack: pgd on val (steps 3)": [12 / 20, 3 / 20, 1 / 20],
        "Accuracy under attack: pgd on val (steps 5)": [19 / 24, 5 / 24, 2 / 24],
    }
    assert len({chart.key for chart in charts}) == 2


def test_shares_of_few_answers_are_drawn_with_their_intervals():
    results = Results("run")
    results.extra["evaluation"] = {
        "set": {
            "calibration": {"confidence": [0.2, None], "accuracy": [0.25, None], "n": [4, 0]},
            "shape_bias": {"category": ["cat", "dog"], "shape": [3, 0], "texture": [1, 0]},
        }
    }
    for make, share in ((calibration_figures, 0.25), (shape_figures, 0.75)):
        (chart,) = make([Source(results)])
        expected = binomtest(round(4 * share), 4).proportion_ci(method="wilson")
        assert isinstance(chart, Chart)
        assert chart.series[0].interval(0) == pytest.approx(tuple(expected))
