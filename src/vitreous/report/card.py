"""The card: one HTML page that holds everything it shows, and needs no network."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from vitreous.io import write_text
from vitreous.report import figures, tables
from vitreous.report.charts import Figure, percent
from vitreous.report.classes import class_tables
from vitreous.report.headline import headline
from vitreous.report.images import galleries, pairs, panel_images
from vitreous.report.predictions import differences
from vitreous.report.sources import Source, read_sources, readable_sources
from vitreous.report.svg import draw_svg, strip
from vitreous.report.values import signed
from vitreous.results import Results


def write_card(
    models: Sequence[Results | str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    title: str = "",
    note: str = "",
) -> Path:
    """Write the card of one to six models as a self-contained HTML file.

    Args:
        models: Results, `results.json` files or run folders; the first is the one that the
            others are compared with (the model before training).
        out: The file to write.
        title: Heading; the models' names by default.
        note: Text under the heading: paragraphs, and lists of lines that begin with `- `.

    Raises:
        VitreousError: If results cannot be read, or the file cannot be written.

    Examples:
        >>> import tempfile
        >>> from vitreous.results import accuracy_record
        >>> results = Results("a model")
        >>> _ = results.add([accuracy_record("clean", "photos", "top1", 90, 100)])
        >>> card = write_card([results], Path(tempfile.mkdtemp()) / "card.html")
        >>> "90" in card.read_text(encoding="utf-8")
        True
    """
    return write_text(out, render(read_sources(models), title=title, note=note))


def render(sources: Sequence[Source], *, title: str = "", note: str = "") -> str:
    """Render the page of sources that were read."""
    with readable_sources(sources):
        tiles = headline(sources)
        count = itertools.count()
        shown = {
            "notes": list(dict.fromkeys(remark for s in sources for remark in s.remarks)),
            "rows": tables.rows(sources),
            "measured": [_drawn(f, next(count)) for f in figures.measured(sources)],
            "matrices": [_drawn(f, next(count)) for f in figures.matrices(sources)],
            "curves": [_drawn(f, next(count)) for f in figures.training(sources)],
            "differences": differences(sources),
            "classes": class_tables(sources),
            "pairs": [(c, s, *pairs(s)) for c, s in enumerate(sources) if s.samples],
            "galleries": galleries(sources),
            "facts": tables.facts(sources),
        }
    return _template().render(
        title=title or _title(sources),
        note=_blocks(note),
        sources=sources,
        tiles=[t for t in tiles if t.known],
        missing=[t.title for t in tiles if not t.known],
        panels=[
            (c, s, [panel_images(t) for t in s.panels]) for c, s in enumerate(sources) if s.panels
        ],
        **shown,
    )


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A figure of the page."""

    title: str
    caption: str
    svg: Markup
    detail: bool


def _drawn(figure: Figure, place: int) -> Drawn:
    return Drawn(figure.title, figure.caption, Markup(draw_svg(figure, place)), figure.detail)


def _blocks(text: str) -> list[tuple[bool, list[str]]]:
    """Paragraphs and lists of a text: whether it is a list, and its lines."""
    lines = [(line.startswith("- "), line.removeprefix("- ")) for line in text.splitlines()]
    grouped = itertools.groupby((one for one in lines if one[1].strip()), key=lambda one: one[0])
    return [(listed, [line for _, line in part]) for listed, part in grouped]


def _title(sources: Sequence[Source]) -> str:
    return sources[0].name if len(sources) == 1 else f"{len(sources)} models side by side"


@functools.cache
def _template() -> jinja2.Template:
    folder = resources.files("vitreous.report") / "templates"

    def asset(name: str) -> Markup:
        return Markup((folder / name).read_text(encoding="utf-8"))

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    names: Any = environment.globals
    names |= {"asset": asset, "strip": _mark, "signed": signed, "percent": percent}
    return environment.from_string((folder / "card.html.j2").read_text(encoding="utf-8"))


def _mark(*arguments: Any) -> Markup:
    return Markup(strip(*arguments))
