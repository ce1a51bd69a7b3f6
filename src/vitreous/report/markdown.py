"""The card as Markdown: a Hugging Face model card with its YAML metadata."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from vitreous.io import write_text
from vitreous.report import prose, tables
from vitreous.report.figures.common import slug
from vitreous.report.headline import Tile, headline
from vitreous.report.png import write_figures
from vitreous.report.prose import cell, escaped
from vitreous.report.sources import Source, read_sources, readable_sources
from vitreous.report.values import Value, settings_text
from vitreous.results import Record, Results


def write_markdown(
    models: Sequence[Results | str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    title: str = "",
    note: str = "",
    license: str = "",
) -> Path:
    """Write a model card of the last of the models, beside the others, and its figures.

    Figures lie in a folder `<name>_figures` beside the file.

    Args:
        models: Results, `results.json` files or run folders.
        out: The file to write, for example `README.md` of a model's folder.
        title: Heading; the last model's name by default.
        note: A paragraph under the heading.
        license: Licence of the weights, as Hugging Face names it; left out if empty.
    """
    sources, target = read_sources(models), Path(out)
    images = target.with_name(f"{target.stem}_figures")
    with readable_sources(sources):
        drawn = [(alt, f"{images.name}/{p.name}") for alt, p in write_figures(sources, images)]
    return write_text(
        target, render_markdown(sources, title=title, note=note, license=license, drawn=drawn)
    )


def render_markdown(
    sources: Sequence[Source],
    *,
    title: str = "",
    note: str = "",
    license: str = "",
    drawn: Sequence[tuple[str, str]] = (),
) -> str:
    """Render the Markdown of sources that were read; `drawn` are text and path of figures."""
    names, model = [s.name for s in sources], sources[-1]
    with readable_sources(sources):
        notes = [remark for s in sources for remark in s.remarks]
        tiles = headline(sources)
        parts = [
            "---\n" + card_metadata(model, license) + "---",
            f"# {escaped(title or model.name)}",
            html.escape(note, quote=False),
            *map(escaped, dict.fromkeys(notes)),
            *prose.about(model),
            *_section("At a glance", _headline(tiles, names)),
            *prose.limits(model, [t for t in tiles if not t.known]),
            *prose.loading(model),
            *_section("Measurements", _records(tables.rows(sources), names)),
        ]
        facts = _section("How it was made", _facts(tables.facts(sources), names))
    if drawn:
        parts += ["## Figures", *(f"![{cell(alt)}]({path})" for alt, path in drawn)]
    parts += facts
    for source in sources:
        if source.recipe:
            block = prose.fenced(source.recipe, "yaml")
            parts.append(f"Recipe of {escaped(source.name)}:\n\n{block}")
    return "\n\n".join(p for p in parts if p) + "\n"


def card_metadata(source: Source, license: str = "") -> str:
    """YAML metadata as the Hugging Face hub reads it, with the accuracies as results."""
    results = [
        {
            "task": {"type": "image-classification", "name": "Image classification"},
            "dataset": {"name": record.dataset, "type": slug(record.dataset)},
            "metrics": [
                {
                    "type": "accuracy",
                    "name": _metric_name(record),
                    "value": round(record.value, 6),
                }
            ],
        }
        for record in source.records
        if record.suite in ("clean", "shifts", "attack", "rotation", "corruptions")
        and record.metric in ("top1", "accuracy")
        and math.isfinite(record.value)
    ]
    values: dict[str, object] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["vitreous", "image-classification", "vision-transformer"],
    }
    if (base := prose.hub_name(source)) is not None:
        values["base_model"] = base
    if license:
        values["license"] = license
    if results:
        values["model-index"] = [{"name": source.name, "results": results}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _metric_name(record: Record) -> str:
    settings = settings_text(record.settings)
    return " ".join([record.suite, record.metric, f"({settings})" if settings else ""]).strip()


def _section(heading: str, table: str) -> list[str]:
    return [f"## {heading}", table] if table else []


def _headline(tiles: Sequence[Tile], names: Sequence[str]) -> str:
    lines = [[t.title, *(_cell(v) for v in t.values), t.note] for t in tiles if t.known]
    return _table(["", *names, "what"], lines)


def _records(rows: Sequence[tables.TableRow], names: Sequence[str]) -> str:
    lines = [
        [
            row.suite,
            row.dataset,
            row.metric,
            row.settings,
            *(_cell(v) for v in row.values),
            "–" if row.n is None else str(row.n),
        ]
        for row in rows
    ]
    return _table(["suite", "set", "measure", "settings", *names, "n"], lines)


def _facts(facts: Sequence[tuple[str, list[str]]], names: Sequence[str]) -> str:
    return _table(["", *names], [[name, *values] for name, values in facts])


def _cell(value: Value) -> str:
    return f"{value.text} ({value.interval})" if value.ci95 else value.text


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    if not lines:
        return ""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell(c) for c in row) + " |" for row in rows)
