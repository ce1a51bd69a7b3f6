"""The words of a model card: what the model is, what it is for, where it fails, how to load it."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from pathlib import Path

from vitreous.errors import VitreousError
from vitreous.io import read_json
from vitreous.models.libraries import library_of
from vitreous.report.headline import Tile
from vitreous.report.sources import Source
from vitreous.report.values import Value, describe_record, is_fraction

# A name of timm with its weights, which the hub holds under `timm/`.
TIMM_NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")


def escaped(text: object) -> str:
    """Text of a file inside Markdown: no HTML, no new headings or links to elsewhere."""
    plain = html.escape(str(text), quote=False)
    return re.sub(r"(?m)^(\s*)([#>])", r"\1\\\2", plain.replace("](", "] ("))


def cell(text: object) -> str:
    """Text inside one cell of a Markdown table, or as the alternative of a figure."""
    plain = html.escape(str(text), quote=False).replace("|", "\\|")
    return " ".join(plain.replace("[", "(").replace("]", ")").split())


def fenced(text: str, language: str) -> str:
    """A block of code, fenced by more back-ticks than it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def hub_name(source: Source) -> str | None:
    """The base model as the hub knows it, where it is one of timm's."""
    base = source.results.context.get("base_model")
    known = isinstance(base, str) and TIMM_NAME.fullmatch(base)
    return f"timm/{base}" if known else None


def about(source: Source) -> list[str]:
    """Base model, data, and intended use."""
    context, config = source.results.context, _config(source)
    recipe = context.get("recipe")
    data = recipe.get("data") if isinstance(recipe, dict) else None
    facts = {
        "Base model": context.get("base_model"),
        "Architecture": config.get("architecture"),
        "Classes": config.get("num_classes"),
        "Training data": _data(data),
        "Training images": context.get("train_images"),
        "Validation images": context.get("validation_images"),
    }
    lines = [f"- {name}: {escaped(value)}" for name, value in facts.items() if value is not None]
    parts = ["## Model and data", "\n".join(lines)] if lines else []
    classes = config.get("num_classes")
    among = f" among {classes} classes" if isinstance(classes, int) else ""
    use = (
        f"Classifying images{among}, and studying what the model looks at and how it withstands "
        "shift and attack. The classes are those of the training data; an image of anything else "
        "is answered with one of them too."
    )
    return [*parts, "## Intended use", use]


def _data(data: object) -> str | None:
    if not isinstance(data, dict):
        return None
    plain = [(k, v) for k, v in data.items() if isinstance(v, (str, int, float)) and v != ""]
    return ", ".join(f"{key} {value}" for key, value in plain) or None


def _config(source: Source) -> dict[str, object]:
    if source.folder is None or not (source.folder / "config.json").is_file():
        return {}
    try:
        config = read_json(source.folder / "config.json")
    except VitreousError:
        return {}
    return config if isinstance(config, dict) else {}


def limits(source: Source, missing: Sequence[Tile]) -> list[str]:
    """Where the model was measured to be weakest, and what was not measured."""
    lines = []
    for suite, words in (
        ("shifts", "Under shift"),
        ("attack", "Under attack"),
        ("rotation", "Turned"),
        ("corruptions", "Corrupted"),
    ):
        records = [
            r
            for r in source.records
            if r.suite == suite and r.metric == "top1" and math.isfinite(r.value)
        ]
        if records:
            worst = min(records, key=lambda r: r.value)
            value = Value(worst.value, worst.ci95, worst.n, is_fraction(worst))
            interval = f" (95 %: {value.interval})" if worst.ci95 else ""
            lines.append(
                f"- {words}, at worst: {value.text}{interval}, {escaped(describe_record(worst))}"
            )
    if missing:
        lines.append(f"- Not measured: {', '.join(t.title for t in missing).lower()}.")
    lines.append(
        "- Figures hold for the sets named below; accuracy on other images may be lower. Relevance "
        "maps show what the answer rests on; they do not prove that it is right."
    )
    return ["## Limitations", "\n".join(lines)]


def loading(source: Source) -> list[str]:
    """How to load the weights, where the run holds them."""
    if source.folder is None or not (source.folder / "model.safetensors").is_file():
        return []
    code = """import vitreous

model = vitreous.load_model("FOLDER")  # the folder of model.safetensors and config.json
logits = model(images)  # images: float (B, 3, H, W) in [0, 1]"""
    if not _from_timm(source.folder):
        return ["## How to load it", fenced(code, "python")]
    code += """

# or without Vitreous; images are then normalized by the caller
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True)"""
    return ["## How to load it", fenced(code, "python")]


def _from_timm(folder: Path) -> bool:
    """Whether a folder is one that timm loads by itself."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    values = read_json(config)
    name = values.get("architecture") if isinstance(values, dict) else None
    return isinstance(name, str) and library_of(name) is None
