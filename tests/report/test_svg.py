"""A figure inside a page: its colours are the page's, and its elements no other figure's."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from vitreous.report.charts import PUBLISHED_COLOUR, Chart, Heatmap, Series
from vitreous.report.drawing import css_variables, drawn
from vitreous.report.svg import draw_svg

NAN = float("nan")
CHARTS = [
    Chart("a", "A & B", "line", [Series("m <1>", 0, [0, 1], [0.1, 0.2], [0, 0.1], [0.2, 0.3])]),
    Chart(
        "b",
        "B",
        "dots",
        [Series("m", 1, [0], [0.405]), Series("p", 6, [0], [0.5])],
        categories=["x"],
    ),
    Chart("c", "C", "points", [Series("m", 2, [0.1], [0.2])], percent=True, percent_x=True),
    Heatmap("d", "D", ["r"], ["1", "2"], [[0.5, NAN]], label="share"),
    Heatmap("e", "E", ["1", "2"], ["1", "2"], [[0, 1], [1, 0]], percent=False, cells=False),
    Chart("f", "F", "line", [Series("none", 0, [0], [NAN])]),
]


@pytest.mark.parametrize("figure", CHARTS, ids=lambda figure: figure.key)
def test_a_figure_is_well_formed_and_takes_the_colours_of_the_page(figure):
    text = draw_svg(figure)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    root = ElementTree.fromstring(text.replace("<svg", f"<svg {names}", 1))
    assert root.get("role") == "img" and figure.title in (root.get("aria-label") or "")
    assert not set(re.findall(r"#[0-9a-f]{6}\b", text)) & set(css_variables())
    assert "<style" not in text and "<metadata" not in text and "DejaVu" not in text
    assert "var(--muted)" in text or isinstance(figure, Heatmap)


def test_elements_of_two_figures_of_a_page_have_different_names():
    first, second = (set(re.findall(r' id="([^"]+)"', draw_svg(CHARTS[0], i))) for i in (0, 1))
    assert first and not first & second
    for place in (0, 1):
        text = draw_svg(CHARTS[0], place)
        used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
        assert used <= set(re.findall(r' id="([^"]+)"', text))


def test_the_same_figure_is_the_same_text():
    assert draw_svg(CHARTS[1]) == draw_svg(CHARTS[1])


def test_numbers_on_the_axes_are_not_cut():
    ticks = [float(t) for t in re.findall(r">(0\.\d+)</text>", draw_svg(CHARTS[1]))]
    steps = {round(b - a, 6) for a, b in itertools.pairwise(ticks)}
    assert len(ticks) > 2 and len(steps) == 1


def test_published_values_are_hollow_and_models_are_filled():
    text = draw_svg(CHARTS[1])
    assert PUBLISHED_COLOUR == 6
    marks = re.findall(r'style="fill: (var\([^)]+\)); stroke: (var\([^)]+\))', text)
    assert ("var(--m1)", "var(--m1)") in marks and ("var(--panel)", "var(--p0)") in marks


@pytest.mark.parametrize("kind", ["line", "dots"])
def test_a_long_legend_takes_nothing_from_the_axes(kind):
    """Eleven series of long names: six models and the published rows, as many as a card has."""
    names = [f"runs/crossvit/18_dagger_408_adversarial_and_rotation/seed_{i}" for i in range(11)]
    heights = []
    for some in (names[:1], names):
        series = [Series(name, i, [0], [0.1 * i]) for i, name in enumerate(some)]
        chart = Chart("k", "T", kind, series, "x", "y", categories=["V4"])
        with drawn(chart, title=True) as canvas:
            canvas.draw_without_rendering()
            (axes,) = canvas.axes
            heights.append(axes.get_window_extent().height / canvas.dpi)
    assert heights[1] > 0.85 * heights[0]


def test_a_name_in_letters_that_the_font_does_not_have_is_drawn_without_a_warning() -> None:
    figure = Heatmap("k", "t", ["猫\t", "b"], ["猫\t", "b"], [[0.5, 0.5], [0.0, 1.0]])
    assert draw_svg(figure).startswith("<svg")
