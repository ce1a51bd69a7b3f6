"""Figures made from records: corruptions at one view, attacks in their unit, lone points."""

from __future__ import annotations

import json
import re

import pytest

from vitreous.attacks.norms import radius_text
from vitreous.evaluation.evaluators.robustness import robustness_curves
from vitreous.report import figures
from vitreous.report.card import render
from vitreous.report.charts import Chart, Heatmap, Series
from vitreous.report.drawing import drawn
from vitreous.report.headline import headline
from vitreous.report.sources import read_sources
from vitreous.report.tables import rows
from vitreous.results import Record, Results, accuracy_record, wilson_interval

KINDS = ("fog", "snow", "frost", "jpeg")


def corrupted(name: str, kinds: tuple[str, ...], severities: tuple[int, ...] = (1, 3)) -> Results:
    results = Results(name)
    results.add(
        accuracy_record("corruptions", "val", "top1", 10 * s + i, 50, corruption=kind, severity=s)
        for i, kind in enumerate(kinds)
        for s in severities
    )
    return results


def test_many_corruptions_begin_with_an_overview() -> None:
    sources = read_sources([corrupted("a", KINDS), corrupted("b", KINDS)])
    overview, first, second, *details = figures.measured(sources)
    assert (
        isinstance(overview, Chart) and isinstance(first, Heatmap) and isinstance(second, Heatmap)
    )
    line = overview.series[0]
    assert (line.x, line.y) == ([1, 3], pytest.approx([11.5 / 50, 31.5 / 50]))
    ends = [wilson_interval(30 + i, 50) for i in range(4)]
    assert line.interval(1) == pytest.approx([sum(e) / 4 for e in zip(*ends)])
    assert first.rows == list(KINDS) and first.columns == ["1", "3"]
    assert first.values[1] == pytest.approx([11 / 50, 31 / 50])
    assert [f.detail for f in (overview, first, second)] == [False] * 3
    assert [f.title.split(":")[0] for f in details] == [f"Accuracy under {kind}" for kind in KINDS]
    assert all(f.detail for f in details)
    page = render(sources)
    folded = page.partition("<details><summary>Each corruption (4 figures)</summary>")[2]
    assert "Accuracy under fog" in folded and "Mean accuracy" not in folded


def test_few_corruptions_are_drawn_one_by_one() -> None:
    made = figures.measured(read_sources([corrupted("a", KINDS[:3])]))
    assert [f.detail for f in made] == [False] * 3 and all(isinstance(f, Chart) for f in made)


def test_the_mean_is_over_severities_that_all_corruptions_have() -> None:
    results = corrupted("a", KINDS)
    results.add(
        [accuracy_record("corruptions", "val", "top1", 1, 50, corruption="fog", severity=5)]
    )
    overview, heatmap, *_ = figures.measured(read_sources([results]))
    assert isinstance(overview, Chart) and overview.series[0].x == [1, 3]
    assert isinstance(heatmap, Heatmap) and heatmap.columns == ["1", "3", "5"]


@pytest.mark.parametrize(("names", "turned"), [(["1", "2", "3"], 0), (["mushroom"] * 8, 90)])
def test_names_of_columns_do_not_run_into_each_other(names: list[str], turned: int) -> None:
    heatmap = Heatmap("k", "t", ["a"], names, [[0.5] * len(names)])
    with drawn(heatmap, title=False) as canvas:
        labels = canvas.axes[0].get_xticklabels()
        assert [label.get_rotation() for label in labels] == [turned] * len(names)


def attacked(norm: str, *epsilons: float) -> Results:
    results = Results(norm)
    results.add(
        accuracy_record("attack", "val", "top1", 20 - i, 20, attack="pgd", epsilon=e, norm=norm)
        for i, e in enumerate((0.0, *epsilons))
    )
    return results


def test_radii_of_l2_are_lengths_and_no_255ths() -> None:
    assert (radius_text(0.5, "l2"), radius_text(2 / 255)) == ("0.5 (L2)", "2/255")
    l2, linf = (read_sources([attacked(*a)]) for a in (("l2", 0.2, 0.4), ("linf", 0.2, 0.4)))
    assert [row.settings for row in rows(l2)] == [
        f"attack pgd, epsilon {e}, norm l2" for e in ("0", "0.2", "0.4")
    ]
    assert "epsilon 51/255" in rows(linf)[1].settings
    (chart,) = figures.measured(l2)
    assert isinstance(chart, Chart) and "255" not in chart.x_label
    assert list(chart.series[0].x) == [0.0, 0.2, 0.4]


def test_the_headline_shows_an_attack_and_not_what_was_before_it() -> None:
    tile = next(
        t for t in headline(read_sources([attacked("l2", 0.5, 1.0)])) if "Attack" in t.title
    )
    assert tile.values[0].value == 19 / 20 and "epsilon 0.5" in tile.note
    both = attacked("l2", 0.01)
    both.add(attacked("linf", 2 / 255, 8 / 255).records)
    tile = next(t for t in headline(read_sources([both])) if "Attack" in t.title)
    assert "2/255" in tile.note and "norm linf" in tile.note


def test_curves_of_one_set_are_told_apart_by_what_differs() -> None:
    records = [
        *attacked("linf", 0.1).records,
        accuracy_record(
            "attack", "v", "top1", 3, 20, attack="pgd", epsilon=0.1, norm="linf", steps=9
        ),
        accuracy_record("attack", "v", "top1", 4, 20, attack="fgsm", epsilon=0.1, norm="linf"),
        accuracy_record("attack", "v", "top1", 5, 20, attack="fgsm", epsilon=9, norm="l2"),
    ]
    curves = robustness_curves(records, "linf")
    assert curves["fgsm"] == [(0.1, 0.2)]
    assert sorted(len(points) for points in curves.values()) == [1, 1, 2]
    assert any("steps 9" in name for name in curves)
    assert robustness_curves(records, "l2") == {"fgsm": [(9.0, 0.25)]}


def test_a_lone_point_has_an_error_bar() -> None:
    lone = Series("a", 0, [1.0], [0.5], [0.3], [0.7])
    many = Series("b", 1, [1.0, 2.0, 3.0], [0.5] * 3, [0.3] * 3, [0.7] * 3)
    for series, bars in ((lone, 1), (many, 0)):
        with drawn(Chart("k", "t", "line", [series]), title=False) as canvas:
            (axes,) = canvas.axes
            upright = [line for line in axes.lines if list(line.get_xdata()) == [1.0, 1.0]]
            assert len(upright) == bars
            assert not bars or list(upright[0].get_ydata()) == [0.3, 0.7]


def test_a_training_curve_has_the_intervals_of_the_validation(tmp_path) -> None:
    Results("run").write(tmp_path / "results.json")
    rows_ = [
        {"step": s, "epoch": s, "split": "validation", "loss": 1.0, "n": {"loss": 40}}
        | {"ci95": {"loss": [0.9, 1.1 + s]}}
        for s in (0, 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows_)) + "\n")
    (curve,) = figures.training(read_sources([tmp_path]))
    assert curve.series[0].interval(1) == (0.9, 2.1)


def test_warnings_of_records_are_on_the_card_and_go_with_them() -> None:
    record = accuracy_record("attack", "val", "top1", 3, 20, attack="pgd", epsilon=0.1, norm="linf")
    results = Results("a")
    results.add([Record(**{**vars(record), "warnings": ("gradients are masked",)})])
    assert "gradients are masked (val · pgd)" in read_sources([results])[0].remarks[0]
    results.add([record])
    assert not read_sources([results])[0].remarks
    assert not re.search("masked", render(read_sources([results])))
