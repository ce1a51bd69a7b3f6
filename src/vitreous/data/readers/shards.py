"""Tar shards in the layout of webdataset: an image with its class, mask and more beside it."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vitreous.data.dataset import UNKNOWN, Dataset, LeftOut
from vitreous.data.listing import NO_IMAGES, is_image, left_out
from vitreous.data.mask_files import MaskFormat
from vitreous.data.readers.tables import Columns, number_labels, with_groups
from vitreous.data.stores import Names, ShardImages, ShardMasks
from vitreous.data.stores.shards import Members
from vitreous.errors import VitreousError

TOLD = ("cls", "json")
LARGEST_TOLD = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class ShardIndex:
    """What lies in tar shards.

    Attributes:
        images: The images.
        masks: Their masks, if there are any.
        beside: For each image what `.cls` and `.json` beside it hold.
        left_out: What belongs to no image.
    """

    images: ShardImages
    masks: ShardMasks | None
    beside: Sequence[dict[str, bytes]]
    left_out: tuple[LeftOut, ...]


def tar_shards(path: Path) -> list[Path]:
    """List the shards that a path means: one tar file, or all of a folder, sorted by name."""
    return [path] if path.suffix == ".tar" else sorted(path.glob("*.tar"))


def index_shards(shards: Sequence[Path], mask_format: MaskFormat = "binary") -> ShardIndex:
    """Index tar shards in the layout of webdataset.

    Members that share a name up to the first dot of their last part are one sample: an image
    (`.jpg`, `.png`, …) and what belongs to it (`.cls`, `.json`, `.mask.png`).

    Raises:
        VitreousError: If a shard is not a tar file or is cut short.
    """
    names, where, masks, mask_where, beside = [], [], [], [], []
    without: dict[str, list[str]] = {"labels without an image": [], NO_IMAGES: []}
    for number, shard in enumerate(shards):
        for key, sample in _samples(shard).items():
            mask = next((e for e in sample if e.startswith("mask.") and is_image(f".{e}")), None)
            image = next((e for e in sample if e != mask and is_image(f"x.{e}")), None)
            if image is None:
                kind = "labels without an image" if "cls" in sample else NO_IMAGES
                without[kind] += [f"{shard.name}/{key}.{e}" for e in sample]
                continue
            names.append(f"{shard.name}/{key}.{image}")
            where.append(_place(number, sample[image]))
            masks.append("" if mask is None else f"{shard.name}/{key}.{mask}")
            mask_where.append((0, 0, 0) if mask is None else _place(number, sample[mask]))
            beside.append({e: _content(shard, sample[e]) for e in TOLD if e in sample})
    kept = ShardMasks(_members(shards, masks, mask_where), mask_format) if any(masks) else None
    return ShardIndex(ShardImages(_members(shards, names, where)), kept, beside, left_out(without))


def read_shards(
    shards: Sequence[Path],
    classes: Sequence[str] | None = None,
    *,
    columns: Columns | None = None,
    mask_format: MaskFormat = "binary",
) -> Dataset:
    """Read tar shards.

    A label is what `.cls` holds, else the entry `label` of `.json`, else the folder that the
    image lies in; a group is the entry `group` of `.json`.

    Args:
        shards: The tar files.
        classes: Names of the classes, in the order of the labels.
        columns: What the entries of `.json` are called.
        mask_format: How masks are read.

    Raises:
        VitreousError: If a shard is not intact, holds no image, or only some images have labels.
    """
    columns = columns or Columns()
    index = index_shards(shards, mask_format)
    count = len(index.images)
    if not count:
        raise VitreousError(f"{shards[0]} and {len(shards) - 1} more tar files hold no picture")
    entries = [_entries(index.images.name(i), index.beside[i]) for i in range(count)]
    texts = [_label(index.images.name(i), entries[i], columns.label) for i in range(count)]
    labels, names = np.full(count, UNKNOWN, dtype=np.int64), tuple(classes or ())
    if any(texts):
        if "" in texts:
            name = index.images.name(texts.index(""))
            raise VitreousError(f"{name} has no .cls beside it, other images have")
        labels, names = number_labels(texts, classes, shards[0].name)
    dataset = Dataset(index.images, labels, names, index.masks, left_out=index.left_out)
    groups = [entry.get(columns.group, "") for entry in entries]
    return with_groups(dataset, groups) if any(groups) else dataset


def _entries(name: str, beside: dict[str, bytes]) -> dict[str, str]:
    """What is told of an image, as texts; `.cls` under the empty name."""
    entries: dict[str, str] = {}
    try:
        table = json.loads(beside.get("json", b"{}"))
        if isinstance(table, dict):
            entries = {k: str(v) for k, v in table.items() if isinstance(v, str | int)}
        if "cls" in beside:
            entries[""] = beside["cls"].decode().strip()
    except (ValueError, RecursionError) as error:
        raise VitreousError(f"{name}: what lies beside it cannot be read: {error}") from error
    return entries


def _label(name: str, entries: dict[str, str], column: str) -> str:
    if entries.get(""):
        return entries[""]
    folders = PurePosixPath(name).parent.parts[1:]
    return entries.get(column) or (folders[-1] if folders else "")


def _samples(shard: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                folder, _, last = member.name.rpartition("/")
                if member.isfile() and not member.issparse() and not last.startswith("."):
                    stem, _, extension = last.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[extension.lower()] = member
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise VitreousError(f"{shard} is not an intact tar file: {error}") from error
    return samples


def _place(shard: int, member: tarfile.TarInfo) -> tuple[int, int, int]:
    return shard, member.offset_data, member.size


def _members(
    shards: Sequence[Path], names: Sequence[str], where: Sequence[tuple[int, int, int]]
) -> Members:
    return Members(shards, Names(names), np.array(where, dtype=np.int64).reshape(-1, 3))


def _content(shard: Path, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST_TOLD:
        raise VitreousError(f"{shard}: {member.name} has {member.size} bytes; expected a label")
    with shard.open("rb") as opened:
        opened.seek(member.offset_data)
        return opened.read(member.size)
