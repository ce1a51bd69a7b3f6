"""Names of models and datasets: short where they can be, told apart by their paths where not."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vitreous.errors import VitreousError
from vitreous.io import check_path

DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows
SUFFIXES = (".tar", ".gz", ".pth", ".pt", ".ckpt", ".safetensors", ".csv", ".parquet", ".json")


def distinct_names(
    paths: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None
) -> list[str]:
    """Name models or datasets so that no two have the same name.

    A folder or file is called by the last part of its path, or by the name given for it; of those
    that share a name, as many parts of the path come before as tell them apart: `a/val`, `b/val`.
    What is no path (a timm name, a test set) keeps its name. Names that would make the same
    folder (see `folder_name`) count as equal.

    Args:
        paths: What the user gave, in order.
        names: Their own names, where they have such.

    Raises:
        VitreousError: If two cannot be told apart: the same one twice.
    """
    texts = [os.fspath(path) for path in paths]
    short = list(names) if names is not None else [_short(text) for text in texts]
    parts = [_parts(text) for text in texts]
    depth = [1 if name == _short(text) else 0 for text, name in zip(texts, short)]
    while clashes := _clashes(short):
        longer = {i: depth[i] + 1 for i in clashes if depth[i] < len(parts[i])}
        if not longer:
            both = " and ".join(texts[i] for i in clashes)
            raise VitreousError(
                f"{both} cannot be told apart: they would share the name '{short[clashes[0]]}'; "
                "give each one once, or measure them into folders of their own"
            )
        for i, count in longer.items():
            depth[i], short[i] = count, "/".join(parts[i][-count:])
    return short


def folder_name(name: str) -> str:
    """A name as the name of a folder: without characters that a path or Windows forbids."""
    plain = re.sub(r'[/\\:*?"<>|\s\x00-\x1f]+', "-", name).strip("-. ") or "model"
    return f"_{plain}" if DEVICES.fullmatch(plain) else plain


def _clashes(names: Sequence[str]) -> list[int]:
    """Places of the first group of names that would make the same folder."""
    keys = [folder_name(name).casefold() for name in names]
    twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
    return [i for i, key in enumerate(keys) if key == twice]


def _short(text: str) -> str:
    parts = _parts(text)
    return parts[-1] if parts else text


def _parts(text: str) -> list[str]:
    """Parts of a path, the last one without the endings of files; none for what is no path.

    A path of another machine, which is absolute, is one too.
    """
    check_path(text, "model or dataset")
    path = Path(text.removeprefix("local-dir:")).expanduser()
    if not path.exists() and not path.is_absolute():
        return []
    path = path.resolve()
    last = path.name
    while not path.is_dir() and last.lower().endswith(SUFFIXES):
        last = last.rpartition(".")[0]
    return [*(p for p in path.parent.parts if p != path.anchor), last]
