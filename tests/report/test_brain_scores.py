"""A brain score says its recording, metric, layer and convention; other kinds have other axes."""

from __future__ import annotations

import colorsys
import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from vitreous.provenance import Provenance
from vitreous.report import figures, write_card
from vitreous.report.charts import PUBLISHED_COLOUR
from vitreous.report.drawing import MODELS, PUBLISHED
from vitreous.report.figures.brain import depth_figures, matrix_figures
from vitreous.report.headline import headline
from vitreous.report.sources import read_sources
from vitreous.report.tables import rows
from vitreous.results import Record, Results
from vitreous.statistics import rdm_correlation


def score(value: float, metric: str = "pls", assembly: str = "macaque", **settings) -> Record:
    settings = {"region": "V4", "layer": "blocks.6", "convention": "raw", **settings}
    return Record("brain", assembly, metric, value, 168, (value - 0.02, value + 0.02), settings)


def drawn(*records: Record, **extra):
    results = Results("m", list(records), extra=extra)
    return [f for f in figures.measured(read_sources([results])) if f.key.startswith("brain")]


def test_recordings_metrics_and_conventions_have_axes_of_their_own():
    made = drawn(
        score(0.406, assembly="chosen", chosen_on="chosen"),
        score(0.37, chosen_on="chosen"),
        score(0.52, chosen_on="chosen", convention="brainscore_2022"),
        score(0.31, "cka"),
        score(0.44, "ridge"),
        score(0.9, "internal_consistency", convention="ceiling"),
    )
    assert [len(f.series) for f in made] == [1] * 5
    titles = [f.title for f in made]
    assert len(set(titles)) == 5
    assert titles[0] == "Brain scores, chosen: PLS regression: correlation r"
    assert "flatters" in made[0].caption and "flatters" not in made[1].caption
    assert "2022 paper" in titles[2] and titles[3].endswith(": CKA")
    assert "(r / ceiling)²" in titles[2] and "correlation" not in titles[2], "no correlation"
    assert "ridge" in titles[4] and "correlation" not in titles[3]
    for figure in made:
        assert figure.categories == ["V4 · blocks.6"]
        assert figure.series[0].interval(0) is not None


def test_published_rows_stand_only_beside_what_they_are():
    published = {"brain_reference": {"AlexNet": {"V4": 0.3}}}
    ceiled = {"convention": "brainscore_2022"}
    names = {
        metric: [s.name for f in drawn(score(0.5, metric, **ceiled), **published) for s in f.series]
        for metric in ("pls", "ridge", "cka")
    }
    assert names == {"pls": ["m", "AlexNet (published)"], "ridge": ["m"], "cka": ["m"]}
    (figure,) = drawn(score(0.5, **ceiled), **published)
    assert figure.series[1].color >= PUBLISHED_COLOUR
    assert figure.categories == ["V4 · blocks.6", "V4 · published"]
    other = drawn(score(0.5, **ceiled), brain_reference={"AlexNet": {"IT": 0.3}})
    assert [s.name for s in other[0].series] == ["m"]


def test_no_published_row_is_gray_as_a_model_is():
    saturations = [colorsys.rgb_to_hls(*to_rgb(color))[2] for color in PUBLISHED]
    assert min(saturations) > 0.2 and not {*PUBLISHED} & {*MODELS}


NEWER = Provenance("brain score", "m", "f", when="2026-01-02T00:00:00+00:00")


def test_each_layer_has_a_row_and_the_newest_is_compared():
    old = Provenance("brain score", "m", "f", when="2026-01-01T00:00:00+00:00")
    new = dataclasses.replace(old, when="2026-01-02T00:00:00+00:00")
    results = Results("m")
    results.add([score(0.4)], old)
    results.add([score(0.3, layer="blocks.9")], new)
    sources = read_sources([results])
    (figure,) = [f for f in figures.measured(sources) if f.key.startswith("brain")]
    assert figure.categories == ["V4 · blocks.6", "V4 · blocks.9"]
    assert list(figure.series[0].y) == [0.4, 0.3]
    tile = next(t for t in headline(sources) if t.title == "Brain")
    assert tile.values[0].value == 0.3
    assert sorted(row.values[0].value for row in rows(sources)) == [0.3, 0.4]


def test_the_headline_is_of_one_recording_that_no_layer_was_chosen_on():
    results = Results(
        "m",
        [
            score(0.6, assembly="chosen", chosen_on="chosen"),
            score(0.3, "cka"),
            score(0.37, chosen_on="chosen"),
            score(0.41, region="IT", chosen_on="chosen"),
        ],
    )
    tile = next(t for t in headline(read_sources([results])) if t.title == "Brain")
    assert tile.values[0].value == pytest.approx(0.39)
    assert tile.note == "V4 (blocks.6), IT (blocks.6) · macaque · PLS regression: correlation r"
    results.add([score(0.05, layer="pixels", chosen_on="chosen")], NEWER)
    tile = next(t for t in headline(read_sources([results])) if t.title == "Brain")
    assert tile.values[0].value == pytest.approx(0.39), "pixels are no layer of the model"


def test_a_chosen_layer_is_compared_and_each_model_tells_its_own():
    first, second = Results("a"), Results("b")
    old = Provenance("brain layers", "a", "f", when="2026-01-01T00:00:00+00:00")
    first.add([score(0.4, chosen_on="chosen")], old)
    first.add([score(0.5, layer="blocks.9", chosen_on=None)], NEWER)
    second.add([score(0.3, layer="blocks.2", chosen_on="chosen")], NEWER)
    tile = next(t for t in headline(read_sources([first, second])) if t.title == "Brain")
    assert [v.value for v in tile.values] == [0.4, 0.3], "a layer that was tried later is no choice"
    assert tile.note.startswith("V4 (a: blocks.6, b: blocks.2) · macaque")


def test_pixels_are_no_layer_of_the_curve():
    rows = [{"layer": "pixels", "depth": 0, "score": 0.1, "error": 0}]
    rows += [{"layer": f"blocks.{i}", "depth": i / 2, "score": 0.3, "error": 0.1} for i in (1, 2)]
    old = Results("old", extra={"depth": {"V4": rows}})
    new = Results("new", extra={"depth": {"V4": rows[1:]}, "pixels": {"V4": {"score": 0.1}}})
    for results in (old, new):
        (figure,) = depth_figures(read_sources([results]))
        line, pixels = figure.series
        assert list(line.x) == [0.5, 1.0] and list(pixels.y) == [0.1, 0.1] and pixels.dashed


def test_matrices_have_a_scale_and_their_similarity(tmp_path):
    scipy = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    first, second = (np.round(random.random((9, 9)), 1) for _ in range(2))
    upper = np.triu_indices(9, 1)
    wanted = scipy.spearmanr(first[upper], second[upper]).statistic
    assert rdm_correlation(first, second) == pytest.approx(wanted)
    assert np.isnan(rdm_correlation(np.zeros((3, 3)), np.eye(3)))
    results = Results(
        "m", extra={"rdms": {"macaque IT": first.tolist(), "IT b.9": second.tolist()}}
    )
    made = matrix_figures(read_sources([results]))
    assert f"“macaque IT”: {wanted:.2f}" in made[1].caption and made[1].label == "1 − r"
    text = write_card([results], tmp_path / "card.html").read_text()
    assert "1 − r" in text and f"{wanted:.2f}" in text
