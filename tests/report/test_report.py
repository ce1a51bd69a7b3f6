"""The card shows what the files hold, all of it, and nothing else."""

from __future__ import annotations

import html
import html.parser
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from helpers import make_run
from vitreous import VitreousError, cli
from vitreous.io import write_json
from vitreous.report import figures, write_card
from vitreous.report.charts import Chart, Series
from vitreous.report.drawing import drawn
from vitreous.report.headline import headline
from vitreous.report.markdown import write_markdown
from vitreous.report.png import write_figures
from vitreous.report.sources import Sample, read_sources
from vitreous.report.tables import extremes, rows
from vitreous.results import Record, Results, accuracy_record, wilson_interval


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [make_run(tmp_path / "a", "plain"), make_run(tmp_path / "b", "guided", 20)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both formats of a run of which nothing was deleted."""
    place = tmp_path_factory.mktemp("whole")
    return written(make_run(place / "a", "plain"), place)


END = "</div>\n</div>"
"""Where a tile of the card's headline ends."""


class Page(html.parser.HTMLParser):
    """Collects what a reader of the page gets: text, pictures, addresses, open tags."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_card_needs_no_network_and_describes_every_figure(runs, tmp_path):
    page = Page(write_card(runs, tmp_path / "card.html"))
    for tag, attributes in page.attributes:
        for name in ("src", "href", "srcset", "action"):
            address = attributes.get(name) or ""
            assert address.startswith(("data:", "#")) or not address, (tag, address)
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img" and len(attributes["aria-label"] or "") > 20
    text = (tmp_path / "card.html").read_text()
    assert not re.search(r"url\((?!data:|#)|@import|fetch\(", text)
    assert not re.search(r"(?:xlink:)?href=\"(?!data:|#)", text)


def test_the_headline_compares_with_the_first_model(runs, tmp_path):
    words = Page(write_card(runs, tmp_path / "card.html")).words
    tiles = {t.title: t for t in headline(read_sources(runs))}
    assert [round(v.value, 4) for v in tiles["Attacked"].values] == [0.127, 0.147]
    assert tiles["Clean"].change(1) == "+2.0" and tiles["Clean"].change(0) == ""
    assert tiles["Shifted"].change(1) == "+18.0"
    assert tiles["Turned"].values[0].value == pytest.approx(0.701)
    assert tiles["Brain"].values[0].text == "0.439"
    for text in ("91.3 %", "93.3 %", "57.3 %", "55.1 – 59.2", "9.9.9", "Nothing rose"):
        assert text in words


def test_a_number_deleted_from_the_results_is_gone_from_the_card(runs, tmp_path):
    raw = json.loads((runs[0] / "results.json").read_text())
    assert "91.3" in (write_card(runs[:1], tmp_path / "card.html")).read_text()
    raw["records"] = [r for r in raw["records"] if r["suite"] != "clean"]
    write_json(runs[0] / "results.json", raw)
    page = write_card(runs[:1], tmp_path / "card.html")
    assert "91.3" not in page.read_text()
    assert "Not measured: clean" in Page(page).words
    for record in list(raw["records"]):
        raw["records"] = [record]
        write_json(runs[0] / "results.json", raw)
        assert len(rows(read_sources(runs[:1]))) == 1
    (runs[0] / "metrics.jsonl").unlink()
    shutil.rmtree(runs[0] / "samples")
    shutil.rmtree(runs[0] / "targeted")
    write_json(runs[0] / "results.json", raw | {"records": [], "extra": {}, "context": {}})
    bare = Page(write_card(runs[:1], tmp_path / "card.html"))
    assert not [t for t, _ in bare.attributes if t in ("svg", "img", "td")]


@pytest.mark.parametrize(
    ("title", "chosen", "text"),
    [
        ("Clean", {"suite": "clean"}, "91.3 %"),
        ("Shifted", {"suite": "shifts"}, "41.7 %"),
        ("Attacked", {"suite": "attack", "value": 0.127}, "12.7 %"),
        ("Turned", {"suite": "rotation", "value": 0.701}, "70.1 %"),
        ("Relevance on the object", {"suite": "explanation"}, "57.3 %"),
        ("Brain", {"suite": "brain"}, "0.439"),
    ],
)
def test_each_headline_number_deleted_is_gone_from_every_format(
    whole, runs, tmp_path, title, chosen, text
):
    assert text in html.unescape(whole.partition(f"<h3>{title}</h3>")[2].partition(END)[0])
    raw = json.loads((runs[0] / "results.json").read_text())
    count = len(raw["records"])
    raw["records"] = [
        r for r in raw["records"] if not all(r[key] == value for key, value in chosen.items())
    ]
    assert len(raw["records"]) == count - 1
    write_json(runs[0] / "results.json", raw)
    left = written(runs[0], tmp_path)
    assert text not in left
    others = {"91.3 %", "41.7 %", "70.1 %", "57.3 %", "0.439"} - {text}
    assert all(other in left for other in others)


def written(run: Path, place: Path) -> str:
    """What both formats say of a run."""
    card = write_card([run], place / "card.html").read_text()
    return html.unescape(card + write_markdown([run], place / "card.md").read_text())


def test_changing_a_number_changes_the_card(runs, tmp_path):
    before = write_card(runs, tmp_path / "card.html").read_text()
    assert before == write_card(runs, tmp_path / "card.html").read_text()
    raw = json.loads((runs[1] / "results.json").read_text())
    raw["records"][0]["value"] = 0.8642
    write_json(runs[1] / "results.json", raw)
    after = write_card(runs, tmp_path / "card.html").read_text()
    assert "86.4 %" in after and "86.4 %" not in before


def test_best_and_worst_changes_are_shown_and_none_twice(runs):
    samples = read_sources(runs)[0].samples
    best, worst = extremes(samples)
    assert [s.index for s in best] == [9, 8, 7, 6]
    assert [s.index for s in worst] == [0, 1, 2, 3]
    for count in range(10):
        shown = [s.index for part in extremes(samples[:count]) for s in part]
        assert len(shown) == len(set(shown)) == min(count, 8)
    unknown = [Sample(i, "x", {}) for i in range(3)]
    assert extremes(unknown) == (unknown, [])


def test_the_best_value_is_marked_only_where_its_interval_is_clear():
    def mark(low: int, high: int) -> int | None:
        a, b = Results("a"), Results("b")
        a.add([accuracy_record("clean", "x", "top1", low, 1000)])
        b.add([accuracy_record("clean", "x", "top1", high, 1000)])
        return rows(read_sources([a, b]))[0].best

    assert mark(500, 600) == 1
    assert mark(500, 520) is None


def test_models_measured_under_other_settings_are_not_compared():
    a, b = Results("a"), Results("b")
    a.add([accuracy_record("attack", "x", "top1", 5, 10, attack="pgd", epsilon=2 / 255)])
    b.add([accuracy_record("attack", "x", "top1", 9, 10, attack="pgd", epsilon=1 / 255)])
    attacked = next(t for t in headline(read_sources([a, b])) if t.title == "Attacked")
    assert not attacked.known
    assert len(rows(read_sources([a, b]))) == 2


def test_evaluation_tables_become_figures():
    results, other = Results("a"), Results("b")
    for one, right in ((results, 5), (other, 7)):
        one.extra["evaluation"] = {
            "set": {
                "per_class": {"name": ["cat", "dog"], "n": [10, 10], "correct": [5, right]},
                "rotation": {"angle": [0, 90], "top1": [0.9, 0.5], "same_prediction": [1, 0.6]}
                | {"n": [20, 20]},
                "calibration": {"confidence": [0.2, None], "accuracy": [0.3, None], "n": [4, 0]},
                "factors": {"name": "place", "value": ["left", "right"], "top1": [0.4, 0.5]},
                "shape_bias": {"category": ["cat"], "shape": [3], "texture": [1], "other": [0]},
                "effective_robustness": {
                    "points": [[0.7, 0.5], [0.8, 0.6]],
                    "line": [-0.5, 1.1],
                    "model": [0.75, 0.6],
                    "n": [40, 20],
                },
                "explanations": {
                    "rollout": {"fraction": [0, 0.5], "positive": [0.9, 0.2], "n": [20, 20]}
                },
            }
        }
    made = {f.key: f for f in figures.measured(read_sources([results, other]))}
    assert len(made) == 7
    assert made["classes_set"].series[0].y == pytest.approx([0.0, 0.2])
    # Newcombe 1998, method 10, by hand: Wilson of 5/10 is (.2366, .7634), of 7/10 (.3968, .8922).
    assert made["classes_set"].series[0].low[1] == pytest.approx(-0.2017, abs=1e-4)
    assert made["classes_set"].series[0].high[1] == pytest.approx(0.5261, abs=1e-4)
    for key, at in (("invariance_set", 1), ("removal_positive_set_rollout", 1)):
        (line, *_), share = made[key].series, {"invariance_set": 12}.get(key, 4)
        assert (line.low[at], line.high[at]) == pytest.approx(wilson_interval(share, 20))
    assert made["shape_bias_set"].series[0].y == [0.75]
    model = made["effective_robustness_set"].series[2]
    assert model.interval(0) == pytest.approx(wilson_interval(12, 20))
    line = made["effective_robustness_set"].series[1]
    middle = min(range(41), key=lambda i: abs(line.x[i] - 0.75))
    assert line.y[middle] == pytest.approx(0.67, abs=0.01)  # sigmoid(-0.5 + 1.1 · logit(0.75))


def test_markdown_has_metadata_that_the_hub_reads(runs, tmp_path):
    path = write_markdown(runs, tmp_path / "README.md", license="apache-2.0")
    text = path.read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] == "apache-2.0"
    result = head["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == pytest.approx(0.933)
    assert head["model-index"][0]["name"] == "guided"
    links = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(links) >= 6
    for link in links:
        with Image.open(tmp_path / link) as image:
            image.verify()
    table = text.partition("## Measurements")[2].partition("##")[0].strip().splitlines()
    assert len(table) == 11 and len({line.count("|") for line in table}) == 1


def test_figures_are_written_as_png(runs, tmp_path):
    written = write_figures(read_sources(runs), tmp_path / "png")
    assert {p.name for _, p in written} >= {"training_loss.png", "relevance_1_worst.png"}
    with Image.open(tmp_path / "png" / "training_loss.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_every_point_and_interval_lies_inside_the_axes(runs):
    for figure in figures.training(read_sources(runs)):
        with drawn(figure, title=False) as canvas:
            axes = canvas.axes[0]
            (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        for series in figure.series:
            assert all(left <= x <= right for x in series.x)
            assert all(low <= y <= high for y in series.y)


def test_a_row_of_dots_is_named_and_as_high_as_it_needs():
    few = Chart("a", "a", "dots", [Series("m", 0, [0], [0.4], [0.3], [0.5])], categories=["IT"])
    many = Chart("b", "b", "dots", [*few.series, *few.series], categories=["IT", "V4"])
    heights = []
    for chart in (few, many):
        with drawn(chart, title=False) as canvas:
            axes = canvas.axes[0]
            names = [label.get_text() for label in axes.get_yticklabels()]
            assert names == list(chart.categories)
            assert axes.get_xlim()[0] <= 0.3 and axes.get_xlim()[1] >= 0.5
            heights.append(canvas.get_size_inches()[1])
    # one row is no slab, and does not fill the height of many
    assert heights[0] < heights[1]


def test_text_from_files_cannot_become_markup(tmp_path):
    results = Results("<script>alert(1)</script>")
    results.add([Record("shifts", "<img src=x onerror=y>", "top1", 0.5)])
    results.extra["notes"] = ["<b>bold</b>"]
    text = write_card([results], tmp_path / "card.html").read_text()
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>bold" not in text


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "results.json").unlink(), "no file at"),
        (lambda run: (run / "results.json").write_text("{"), "is not valid JSON"),
        (lambda run: (run / "metrics.jsonl").write_text("x\n{}\n"), "line 1 is not JSON"),
        (lambda run: write_json(run / "samples/samples.json", [{"index": 1}]), "index, label"),
        (lambda run: write_json(run / "targeted/targeted.json", 3), "expected a list"),
        (lambda run: (run / "recipe.yaml").write_bytes(b"\xff"), "cannot be read as text"),
    ],
)
def test_broken_files_are_named_in_one_line(runs, break_it, message, tmp_path, capsys):
    break_it(runs[0])
    status = cli.main(["report", str(runs[0]), "--out", str(tmp_path / "card.html")])
    error = capsys.readouterr().err
    assert status == 1 and message in error and error.count("\n") == 1
    assert not (tmp_path / "card.html").exists()


def test_the_command_writes_every_format(runs, tmp_path, capsys):
    names = [str(r) for r in runs]
    assert cli.main(["report", *names, "--out", str(tmp_path / "c.html")]) == 0
    assert "c.html" in capsys.readouterr().out
    assert cli.main(["report", *names, "--format", "png", "--out", str(tmp_path / "f")]) == 0
    assert list((tmp_path / "f").glob("*.png"))
    with pytest.raises(VitreousError, match="one to six"):
        write_card(names * 4, tmp_path / "many.html")


def test_a_missing_picture_leaves_a_gap_not_an_error(runs, tmp_path):
    (runs[0] / "samples" / "9_before.png").unlink()
    (runs[0] / "samples" / "8_before.png").write_bytes(b"")
    words = Page(write_card(runs[:1], tmp_path / "card.html")).words
    assert words.count("picture missing") == 2
