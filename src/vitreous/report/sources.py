"""What the card reads: `results.json` and the files of a run folder, nothing else."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitreous.data.images import open_image
from vitreous.errors import ImageError, VitreousError
from vitreous.io import read_json, read_json_lines
from vitreous.results import Results

LARGEST_IMAGE = 288
PIXEL_ART = 128


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture of `samples/`.

    Attributes:
        index: Its place in the validation set.
        label: Its class, as a name or a number.
        files: Role (`picture`, `mask`, `before`, `after`) → file.
        before: Share of the relevance on the foreground before training, where known.
        after: The same after training.
    """

    index: int
    label: str
    files: Mapping[str, Path]
    before: float | None = None
    after: float | None = None

    @property
    def change(self) -> float:
        """How much the share on the foreground rose; NaN where it is not known."""
        if self.before is None or self.after is None:
            return math.nan
        return self.after - self.before


@dataclasses.dataclass(frozen=True)
class Strip:
    """Pictures of `targeted/` in a row: the same picture pushed towards a class.

    Attributes:
        title: What was done, for example `dog → teapot`.
        files: Caption → file, in order.
    """

    title: str
    files: Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class Source:
    """One column of the card: a model's results and its run folder, if it has one."""

    results: Results
    folder: Path | None = None
    history: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Sample] = ()
    panels: Sequence[Strip] = ()
    recipe: str = ""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.results.model

    @property
    def remarks(self) -> list[str]:
        """What the authors of the results say a reader must know, and what went wrong."""
        extra = self.results.extra
        attacks = extra.get("attack_warnings", {})
        warnings = [
            *_texts(extra.get("warnings")),
            *(t for v in attacks.values() for t in _texts(v)),
        ]
        return [*_texts(extra.get("notes")), *(f"{self.name}: {text}" for text in warnings)]


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(v) for v in value or ()]


def read_sources(models: Sequence[Results | str | os.PathLike[str]]) -> list[Source]:
    """Read results and run folders; names that occur twice get a number.

    Raises:
        VitreousError: If there are none or more than six, or a results file cannot be read.
    """
    if not 1 <= len(models) <= 6:
        raise VitreousError(f"a card shows one to six models, found {len(models)}")
    sources = [read_source(model) for model in models]
    seen: dict[str, int] = {}
    named = []
    for source in sources:
        seen[source.name] = seen.get(source.name, 0) + 1
        if seen[source.name] > 1:
            name = f"{source.name} ({seen[source.name]})"
            source = dataclasses.replace(
                source, results=dataclasses.replace(source.results, model=name)
            )
        named.append(source)
    return named


def read_source(model: Results | str | os.PathLike[str]) -> Source:
    """Read one model: results in memory, a `results.json`, or a run folder."""
    if isinstance(model, Results):
        return Source(model)
    path = Path(model)
    if not path.exists():
        raise VitreousError(f"no results at {path}; give a run folder or a results.json")
    folder = path if path.is_dir() else path.parent
    recipe = folder / "recipe.yaml"
    return Source(
        Results.read(path),
        folder,
        history=_read_history(folder / "metrics.jsonl"),
        samples=_read_samples(folder / "samples"),
        panels=_read_strips(folder / "targeted"),
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _read_history(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl, figures that lie in an object of their own beside the others."""
    entries = []
    for entry in read_json_lines(path):
        figures = entry.pop("figures", {})
        entries.append({**entry, **(figures if isinstance(figures, dict) else {})})
    return entries


def _read_samples(folder: Path) -> list[Sample]:
    listing = folder / "samples.json"
    if not listing.is_file():
        return []
    return [_sample(entry, folder, listing) for entry in _entries(listing)]


def _sample(entry: dict[str, Any], folder: Path, listing: Path) -> Sample:
    try:
        return Sample(
            int(entry["index"]),
            str(entry.get("class_name", entry.get("label", ""))),
            {str(role): folder / name for role, name in entry["files"].items()},
            entry.get("foreground_before"),
            entry.get("foreground_after"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise VitreousError(
            f"{listing}: expected entries with index, label and files (role: name), "
            f"found {str(entry)[:80]}"
        ) from error


def _read_strips(folder: Path) -> list[Strip]:
    listing = folder / "targeted.json"
    if not listing.is_file():
        return []
    panels = []
    for entry in _entries(listing):
        try:
            files = {str(caption): folder / name for caption, name in entry["files"].items()}
            panels.append(Strip(str(entry["title"]), files))
        except (KeyError, TypeError, AttributeError) as error:
            raise VitreousError(
                f"{listing}: expected entries with title and files (caption: name), "
                f"found {str(entry)[:80]}"
            ) from error
    return panels


def _entries(listing: Path) -> list[dict[str, Any]]:
    value = read_json(listing)
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), [])
    if not isinstance(value, list):
        raise VitreousError(f"{listing}: expected a list, found {type(value).__name__}")
    return value


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A picture inside the page.

    Attributes:
        uri: `data:` address with the picture's bytes.
        width: In pixels.
        height: In pixels.
        small: Whether it is so small that its pixels should stay squares when enlarged.
    """

    uri: str
    width: int
    height: int
    small: bool


def embed(path: Path) -> Embedded | None:
    """Put a picture into a `data:` address, at most 288 pixels wide; None if it cannot be read."""
    try:
        image = open_image(path)
    except ImageError:
        return None
    image.thumbnail((LARGEST_IMAGE, LARGEST_IMAGE))
    small = max(image.size) <= PIXEL_ART
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=86)
    kind = "png" if small else "jpeg"
    text = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Embedded(f"data:image/{kind};base64,{text}", *image.size, small)
