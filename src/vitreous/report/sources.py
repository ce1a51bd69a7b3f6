"""What the card reads: `results.json` and the files of a run folder, nothing else."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import io
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitreous.data.images import open_image
from vitreous.errors import ImageError, VitreousError, shorten
from vitreous.io import inside, read_json, read_json_lines
from vitreous.models.class_words import class_words
from vitreous.names import distinct_names
from vitreous.results import Record, Results, belongs, told_apart

# An object of a JSON file: what it must hold is said where it is drawn, see `readable`.
Table = Mapping[str, Any]
Renamed = Callable[[str, str], str]
OWN = (
    "results.json",
    "metrics.jsonl",
    "recipe.yaml",
    "samples/samples.json",
    "targeted/targeted.json",
)
LARGEST_IMAGE = 288
PIXEL_ART = 128


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image of `samples/`.

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
    """Images of `targeted/` in a row: the same image pushed towards a class.

    Attributes:
        title: What was done, for example `dog → teapot`.
        files: Caption → file, in order.
    """

    title: str
    files: Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class Source:
    """One column of the card: a model's results and its run folder, if it has one.

    `renamed` tells test sets of one name apart: from name and place to what the card shows.
    """

    results: Results
    folder: Path | None = None
    history: Sequence[Table] = ()
    samples: Sequence[Sample] = ()
    panels: Sequence[Strip] = ()
    recipe: str = ""
    renamed: Renamed = lambda name, place: name

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.results.model

    @functools.cached_property
    def records(self) -> list[Record]:
        """The records that are shown: of each thing measured the fullest of the newest weights."""
        return self.results.current()

    @property
    def remarks(self) -> list[str]:
        """What the authors of the results say a reader must know, and what went wrong."""
        extra = self.results.extra
        attacks = extra.get("attack_warnings", {})
        if not isinstance(attacks, dict):
            raise VitreousError(f"{self.name}: extra.attack_warnings is not set → texts")
        warnings = [
            *_texts(extra.get("warnings")),
            *(t for v in attacks.values() for t in _texts(v)),
            *self._told(),
            *self._states(),
        ]
        return [*_texts(extra.get("notes")), *(f"{self.name}: {text}" for text in warnings)]

    def _told(self) -> list[str]:
        """Warnings of records, each with what it is of: the set and the attack or method."""
        told: dict[str, dict[str, None]] = {}
        for record in self.records:
            of = [record.dataset, str(record.settings.get("attack", ""))]
            for text in record.warnings:
                told.setdefault(text, {})[" · ".join(part for part in of if part)] = None
        return [f"{text} ({'; '.join(of)})" for text, of in told.items()]

    def _states(self) -> list[str]:
        """Say where measurements of one kind are of more than one state of the weights."""
        states: dict[str, dict[str, None]] = {}
        for record in self.records:
            if record.provenance.fingerprint:
                kind = states.setdefault(record.provenance.kind, {})
                kind[record.provenance.fingerprint] = None
        return [
            f"what '{kind}' measured is of {len(prints)} states of the model "
            f"({', '.join(prints)}); measure again what is to be compared"
            for kind, prints in states.items()
            if len(prints) > 1
        ]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else []


@contextlib.contextmanager
def readable_sources(sources: Sequence[Source]) -> Generator[None]:
    """Tell in one line of results whose settings or tables are not as Vitreous writes them.

    What a table must hold is said where it is drawn, in many places; that it does not is found
    there, and said here.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        names = ", ".join(str(s.folder or s.name) for s in sources)
        raise VitreousError(
            f"results of {names}: 'settings' or 'extra' are not as Vitreous writes them "
            f"({type(error).__name__}: {str(error)[:120]!r}); measure again"
        ) from error


def read_sources(models: Sequence[Results | str | os.PathLike[str]]) -> list[Source]:
    """Read results and run folders; names that occur twice are told apart by their folders.

    Raises:
        VitreousError: If there are none or more than six, the same one twice, or a results file
            cannot be read.
    """
    if not 1 <= len(models) <= 6:
        raise VitreousError(f"a card shows one to six models, found {len(models)}")
    sources = [read_source(model) for model in models]
    paths = [str(s.folder.resolve()) if s.folder else s.name for s in sources]
    names = distinct_names(paths, [s.name for s in sources])
    renamed = told_apart([s.results.records for s in sources])
    return [_named(source, name, renamed) for source, name in zip(sources, names)]


def _named(source: Source, name: str, renamed: Renamed) -> Source:
    """A source under a name, its test sets of one name told apart by their places."""
    records = [
        dataclasses.replace(r, dataset=renamed(r.dataset, r.source)) for r in source.results.records
    ]
    results = dataclasses.replace(source.results, model=name, records=records)
    results.extra = _entries_named(results.extra, renamed)
    return dataclasses.replace(source, results=results, renamed=renamed)


def _entries_named(extra: dict[str, Any], renamed: Renamed) -> dict[str, Any]:
    """Tables of test sets under the names of their records.

    How an entry is called depends on what was measured beside it: two of one place are of one set.
    """
    evaluated = extra.get("evaluation")
    if not isinstance(evaluated, dict):
        return extra
    told: dict[str, Any] = {}
    owners = {key: belongs(key, entry) for key, entry in evaluated.items()}
    for key, entry in evaluated.items():
        own, place, settings = owners[key]
        name = renamed(own, place)
        others = {s for o, p, s in owners.values() if (o, p) == (own, place)} - {settings}
        # One set that was read in two ways has two entries, told apart by how.
        name += f" ({settings})" if others and settings else ""
        told[name] = {**told[name], **entry} if name in told else entry
    return {**extra, "evaluation": told}


def read_source(model: Results | str | os.PathLike[str]) -> Source:
    """Read one model: results in memory, a `results.json`, or a run folder."""
    if isinstance(model, Results):
        return Source(model)
    path = Path(model)
    if not path.exists():
        raise VitreousError(f"no results at {path}; give a run folder or a results.json")
    folder = path if path.is_dir() else path.parent
    for name in OWN:
        if folder / name != path and (folder / name).is_file():
            inside(folder, name)  # a run may come from others, with links that lead elsewhere
    return Source(
        Results.read(path),
        folder,
        history=_read_history(folder / "metrics.jsonl"),
        samples=_read_samples(folder / "samples"),
        panels=_read_strips(folder / "targeted"),
        recipe=_read_recipe(folder / "recipe.yaml"),
    )


def _read_recipe(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise VitreousError(f"{path} cannot be read as text: {error}") from error


def _read_history(path: Path) -> list[Table]:
    """Read metrics.jsonl, figures that lie in an object of their own beside the others."""
    entries: list[Table] = []
    for entry in read_json_lines(path):
        figures = entry.pop("figures", {})
        entries.append({**entry, **(figures if isinstance(figures, dict) else {})})
    return entries


def _read_samples(folder: Path) -> list[Sample]:
    listing = folder / "samples.json"
    expected = "index, label and files (role: name)"
    return [
        Sample(
            int(entry["index"]),
            class_words(str(entry.get("class_name", entry.get("label", "")))),
            files,
            _share(entry.get("foreground_before")),
            _share(entry.get("foreground_after")),
        )
        for entry, files in _listed(listing, ("index", "files"), expected)
    ]


def _read_strips(folder: Path) -> list[Strip]:
    listing = folder / "targeted.json"
    expected = "title and files (caption: name)"
    return [
        Strip(str(entry["title"]), files)
        for entry, files in _listed(listing, ("title", "files"), expected)
    ]


def _share(value: object) -> float | None:
    """A share as it was measured; None for what is none: text, NaN, more than a float holds."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 2**63 else None


def _listed(
    listing: Path, needed: Sequence[str], expected: str
) -> list[tuple[Table, dict[str, Path]]]:
    """Entries of a listing of images, each with its files; none where there is no listing.

    A file that is not there leaves a gap; that none is there is no such gap.
    """
    listed: list[tuple[Table, dict[str, Path]]] = []
    for entry in _entries(listing) if listing.is_file() else []:
        known = isinstance(entry, dict) and all(name in entry for name in needed)
        if not known or not isinstance(entry["files"], dict) or not _whole(entry.get("index", 0)):
            raise VitreousError(
                f"{listing}: expected entries with {expected}, found {str(entry)[:80]}"
            )
        listed.append((entry, {str(k): _picture(listing, v) for k, v in entry["files"].items()}))
    files = [file for _, named in listed for file in named.values()]
    if files and not any(file.is_file() for file in files):
        raise VitreousError(f"{listing}: none of its pictures is there (first: {files[0]})")
    return listed


def _picture(listing: Path, name: object) -> Path:
    """A file that a listing names beside it; raises VitreousError where it cannot be one."""
    folder = listing.parent
    if not isinstance(name, str):
        raise VitreousError(f"{listing}: expected names of files, found {shorten(name)}")
    file = inside(folder.parent, os.path.join(folder.name, name), listing)
    if file.is_dir():
        raise VitreousError(f"{listing}: expected names of files, found {shorten(name)!r}")
    return file


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _entries(listing: Path) -> list[Table]:
    value = read_json(listing)
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), [])
    if not isinstance(value, list):
        raise VitreousError(f"{listing}: expected a list, found {type(value).__name__}")
    return value


@dataclasses.dataclass(frozen=True)
class Embedded:
    """An image inside the page.

    Attributes:
        uri: `data:` address with the image's bytes.
        width: In pixels.
        height: In pixels.
        small: Whether it is so small that its pixels should stay squares when enlarged.
    """

    uri: str
    width: int
    height: int
    small: bool


def embed(path: Path) -> Embedded | None:
    """Put an image into a `data:` address, at most 288 pixels wide; None if it cannot be read."""
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
