"""The files of `vitreous explain`: maps of images by one model or two, drawn and described."""

from __future__ import annotations

import dataclasses
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vitreous.attribution.draw import overlay, panel, save_gray, save_tiff
from vitreous.data.images import open_image, save_image, to_tensor, to_uint8
from vitreous.errors import printable
from vitreous.evaluation.evaluators.maps import MappedImages
from vitreous.fingerprint import digest
from vitreous.io import atomic_path, read_json, write_json

SETTINGS = "drawing.json"
Captioned = tuple[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What is made of the maps.

    Attributes:
        save: Any of `panel` (KEY.png, all maps of an image), `overlay` (a PNG for each map), `png`
            (8-bit gray), `tiff` (float32), `npz` (all maps in one file).
        color_map: One of matplotlib's.
        strength: Share of its colour where relevance is 1.
        grid: How many images stand in one figure of methods × images; 0 for none.
        gif: Write an animation of the images in order.
        seconds: How long the animation shows an image.
    """

    save: tuple[str, ...] = ("panel", "npz")
    color_map: str = "inferno"
    strength: float = 0.7
    grid: int = 0
    gif: bool = False
    seconds: float = 0.5


@dataclasses.dataclass(frozen=True)
class ExplainedImage:
    """An image, the name of its files without suffix, and its row of each model."""

    path: Path
    key: str
    rows: tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Explanations:
    """Maps of images by one model, or by two that are shown beside each other.

    Attributes:
        mapped: The maps of each model.
        paths: The image files, in the order of their numbers.
        out: Folder to write to.
        drawing: What is made of the maps.
    """

    mapped: Sequence[MappedImages]
    paths: Sequence[Path]
    out: Path
    drawing: Drawing

    def entries(self) -> list[ExplainedImage]:
        """The images that all models could read, in order."""
        tables = [{int(row["index"]): row for row in m.readable} for m in self.mapped]
        shared = [i for i in tables[0] if all(i in table for table in tables)]
        keys = file_keys(self.paths)
        return [ExplainedImage(self.paths[i], keys[i], tuple(t[i] for t in tables)) for i in shared]

    def skipped(self) -> list[str]:
        """Why images could not be read."""
        return list(dict.fromkeys(r for m in self.mapped for r in m.measured.reasons.values()))

    def places(self, entry: ExplainedImage) -> Iterator[tuple[str, MappedImages, np.ndarray]]:
        """What the maps of an image by each model are called, the model's maps, its row."""
        for place, (mapped, row) in enumerate(zip(self.mapped, entry.rows)):
            yield f"{entry.key}/{place}" if len(self.mapped) > 1 else entry.key, mapped, row

    def files(self, entry: ExplainedImage) -> dict[Path, tuple[str, str]]:
        """The files of an image's single maps → what is saved, and the map's name."""
        suffixes = {"overlay": "png", "png": "png", "tiff": "tiff"}
        return {
            self.out / f"{kind}s" / f"{name.replace('/', '.')}.{suffixes[kind]}": (kind, name)
            for kind in self.drawing.save
            if kind in suffixes
            for name in self.names(entry)
        }

    def names(self, entry: ExplainedImage) -> list[str]:
        """Names of all maps of an image."""
        return [f"{n}/{label}" for n, m, row in self.places(entry) for label in m.labels(row)]

    def maps(self, entry: ExplainedImage) -> dict[str, np.ndarray]:
        """Name → map (H, W) of an image, by all models."""
        return {f"{n}/{k}": v for n, m, r in self.places(entry) for k, v in m.maps(r).items()}

    def draw(self, entry: ExplainedImage) -> None:
        """Write what is missing or out of date of an image's own files."""
        single, whole = self.files(entry), self.out / f"{entry.key}.png"
        panels = [whole] if "panel" in self.drawing.save else []
        if not self._stale(entry, [*single, *panels]):
            return
        maps, sources = self.maps(entry), self.sources(entry)
        for file, (kind, name) in single.items():
            if kind == "overlay":
                source = next(s for n, s in sources.items() if name.startswith(f"{n}/"))
                save_image(self.laid(source, maps[name]), file)
            else:
                {"png": save_gray, "tiff": save_tiff}[kind](maps[name], file)
        if panels:
            panel(self.lines(entry), whole, entry.path.name)

    def _stale(self, entry: ExplainedImage, files: Sequence[Path]) -> bool:
        """Whether a file is missing, or older than the maps or the settings that it shows."""
        made = [m.evaluator.file(int(row["index"])) for _, m, row in self.places(entry)]
        newest = max(_time(f) for f in (*made, self.out / SETTINGS))
        return any(_time(file) < newest for file in files)

    def sources(self, entry: ExplainedImage) -> dict[str, Tensor]:
        """What each model's maps are called → the image (3, H, W) as it saw it."""
        image = open_image(entry.path)
        return {
            name: to_tensor(mapped.measured.view.crop()(image))
            for name, mapped, _ in self.places(entry)
        }

    def laid(self, source: Tensor, relevance: np.ndarray) -> Tensor:
        """A map over its image."""
        how = self.drawing
        return overlay(source, torch.from_numpy(relevance)[None], how.strength, how.color_map)

    def lines(self, entry: ExplainedImage) -> list[list[Captioned]]:
        """For each model the image with its most probable class, and the maps over it."""
        lines, sources = [], self.sources(entry)
        for name, mapped, row in self.places(entry):
            source, constant = sources[name], mapped.constant(row)
            captions = mapped.captions(row)
            shown = [
                (captions[label] + " (constant)" * constant[label], self.laid(source, m))
                for label, m in mapped.maps(row).items()
            ]
            lines.append([(_title(mapped, row), source), *shown])
        return lines

    def frame(self, entry: ExplainedImage) -> Image.Image:
        """A frame of the animation: the image and all maps over it, side by side."""
        lines = [torch.cat([image for _, image in line], 2) for line in self.lines(entry)]
        widest = max(line.shape[2] for line in lines)
        padded = [F.pad(x, (0, widest - x.shape[2])) for x in lines]
        return Image.fromarray(to_uint8(torch.cat(padded, 1))).quantize(255)

    def values(self, entry: ExplainedImage) -> dict[str, object]:
        """What is written of an image to explanations.json."""
        file = f"{entry.key}.png" if "panel" in self.drawing.save else None
        models = [_answer(mapped, row) for _, mapped, row in self.places(entry)]
        return {"picture": str(entry.path), "file": file, "models": models}


def file_keys(paths: Sequence[Path]) -> list[str]:
    """A file name for each image that no other one has: its stem, numbered where it recurs."""
    names, keys = {path.stem for path in paths}, []
    count: Counter[str] = Counter()
    for path in paths:
        key = path.stem
        while count[path.stem] and (key == path.stem or key in names):
            count[path.stem] += 1
            key = f"{path.stem}_{count[path.stem]}"
        count[path.stem] += count[path.stem] == 0
        names.add(key)
        keys.append(key)
    return keys


def note_settings(explained: Explanations) -> None:
    """Write down how images are drawn; what is older than another note is drawn anew."""
    how = explained.drawing
    repeated = [k for k, n in Counter(p.stem for p in explained.paths).items() if n > 1]
    clashes = [str(p) for p in explained.paths if p.stem in repeated]
    value = {
        "color_map": how.color_map,
        "strength": how.strength,
        "maps": digest([str(m.evaluator.folder) for m in explained.mapped], clashes),
    }
    file = explained.out / SETTINGS
    if not file.is_file() or read_json(file) != value:
        write_json(file, value)


def write_maps(explained: Explanations, entries: Sequence[ExplainedImage], path: Path) -> None:
    """Write all maps into one NPZ file, an image at a time."""
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in entries:
            for name, values in explained.maps(entry).items():
                with archive.open(f"{printable(name)}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values)


def _time(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else -1


def _title(mapped: MappedImages, row: np.ndarray) -> str:
    name = mapped.classifier.class_name(int(row["classes"][0]))
    return f"{mapped.classifier.name[:34]}\n{name[:28]} {row['probability'][0]:.0%}"


def top_classes(mapped: MappedImages, row: np.ndarray) -> list[tuple[int, str, float]]:
    """Number, name and probability of an image's most probable classes, best first."""
    pairs = zip(row["classes"].tolist(), row["probability"].tolist())
    return [(number, mapped.classifier.class_name(number), value) for number, value in pairs]


def _answer(mapped: MappedImages, row: np.ndarray) -> dict[str, object]:
    targets, against = row["target"].tolist(), mapped.against
    return {
        "model": mapped.classifier.name,
        "target": targets[0] if len(targets) == 1 else targets,
        **({} if against is None else {"against": against}),
        "top": [{"class": i, "name": n, "probability": p} for i, n, p in top_classes(mapped, row)],
        "constant": bool(row["constant"].any()),
    }
