"""Whose a folder is, and whose a file is: what we did not make is not written to.

A folder that a command makes gets a marker, `.vitreous.json`, with its kind. Folders of before
there were markers are known by what only our commands write. A file is ours if it begins as ours
do. Everything else needs `--overwrite`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path

from vitreous.disk import ELSEWHERE, tidy, writing
from vitreous.errors import VitreousError
from vitreous.io import check_path, read_json, write_json
from vitreous.locks import LOCK

MARKER = ".vitreous.json"
VERSION = 1
# Folders of before there were markers: all files of one line (patterns) tell the kind.
LEGACY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("demo", ("demo.json",)),
    ("run", ("recipe.yaml", "metrics.jsonl")),
    ("run", ("recipe.yaml", "checkpoints/last.pt")),
    ("masks", ("_quality/settings.json", "manifest.jsonl")),
    ("masks", ("_quality/settings.json", "manifest.csv")),
    ("explanations", ("explanations.json", "maps.npz")),
    ("sweep", ("study.db",)),
    ("composites", ("plan.json",)),
    ("activations", ("[0-9a-f]" * 16 + "/*.npy",)),
    ("evaluation", ("results.json",)),
)
BYPRODUCTS = {MARKER, LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"}
HEAD = 1 << 16
_made: list[Path] = []  # by `claim_folder`, with parents, in this process


def folder_kind(folder: str | os.PathLike[str]) -> str | None:
    """What a folder holds, if we made it: `run`, `masks`, `explanations`, …; else None.

    A marker that cannot be read counts for nothing.
    """
    root = Path(folder)
    marker = root / MARKER
    if marker.is_file():
        try:
            content = read_json(marker)
        except VitreousError:
            content = None
        if isinstance(content, dict) and isinstance(content.get("kind"), str):
            return content["kind"]
    for kind, names in LEGACY:
        if all(any(path.is_file() for path in root.glob(name)) for name in names):
            return kind
    return "model" if _is_model(root) else None


def _is_model(root: Path) -> bool:
    if not (root / "config.json").is_file() or not (root / "model.safetensors").is_file():
        return False
    try:
        config = read_json(root / "config.json")
    except VitreousError:
        return False
    return isinstance(config, dict) and "vitreous_name" in config


def check_folder(
    folder: str | os.PathLike[str],
    kind: str,
    *,
    also: Sequence[str] = (),
    overwrite: bool = False,
    option: str = "--out",
) -> None:
    """Refuse a folder that we did not make, or made for something else; writes nothing.

    Args:
        folder: Where a command is to write; it may be missing or empty.
        kind: What the command writes.
        also: Other kinds of ours that it may write to.
        overwrite: Whether to write there all the same.
        option: What named the folder, for messages.

    Raises:
        VitreousError: If it holds what must not be overwritten; says what.
    """
    root = Path(folder)
    check_path(root, option)
    if root.exists() and not root.is_dir():
        raise VitreousError(f"{root} is a file, expected a folder; choose another {option}")
    if overwrite or not root.is_dir():
        return
    held = folder_kind(root)
    if held == kind or held in also:
        _check_links(root)
        return
    if held is not None:
        raise VitreousError(
            f"{root} holds {_article(held)}, not {_article(kind)}; choose another {option}, or "
            "--overwrite to write there all the same"
        )
    try:
        names = sorted(p.name for p in root.iterdir() if not _byproduct(p.name))
    except OSError as error:
        raise VitreousError(
            f"{root} cannot be read: {error.strerror or error}; {ELSEWHERE}"
        ) from error
    if names:
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        raise VitreousError(
            f"{root} holds files that vitreous did not make ({shown}); choose another {option}, or "
            "--overwrite to write there all the same"
        )


def _check_links(root: Path) -> None:
    """Refuse a folder of ours with a link that leads out of it: we make none, and would follow it.

    Where such a folder comes from others, what stands at the other end would be overwritten.
    """
    whole = root.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not _lies_in(path, whole):
                raise VitreousError(
                    f"{path} is a link that leads out of {root}; remove it, or --overwrite to "
                    "write to where it leads"
                )


def _lies_in(link: Path, whole: Path) -> bool:
    try:
        return link.resolve().is_relative_to(whole)
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def claim_folder(
    folder: str | os.PathLike[str],
    kind: str,
    *,
    also: Sequence[str] = (),
    overwrite: bool = False,
    option: str = "--out",
) -> Path:
    """Check a folder as `check_folder` does, make it and mark it as ours; returns its path.

    What killed processes left half-written in it is removed.
    """
    check_folder(folder, kind, also=also, overwrite=overwrite, option=option)
    root = Path(folder)
    with writing(root):
        missing = [path for path in (root, *root.parents) if not path.exists()]
        root.mkdir(parents=True, exist_ok=True)
        _made.extend(path.absolute() for path in missing)
    tidy(root, deep=True)
    if not (root / MARKER).is_file() or folder_kind(root) not in (kind, *also):
        write_json(root / MARKER, {"kind": kind, "version": VERSION}, durable=False)
    return root


@contextlib.contextmanager
def removed_if_empty() -> Generator[None]:
    """Leave no folder that was claimed for a command that ends in a mistake before it wrote there.

    A folder goes if it was made in the block and holds its marker alone, or folders without files.
    """
    _made.clear()
    try:
        yield
    except BaseException:
        for root in sorted(_made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                _remove_if_empty(root)
        raise


def _remove_if_empty(root: Path) -> None:
    held = sorted(root.rglob("*"), reverse=True)  # what stands in a folder before the folder
    files = [path for path in held if path.is_symlink() or not path.is_dir()]
    if all(path == root / MARKER for path in files):
        for path in held:
            path.unlink() if path in files else path.rmdir()
        root.rmdir()


def check_file(
    path: str | os.PathLike[str], sign: bytes, what: str, *, overwrite: bool = False
) -> None:
    """Refuse to write over a file that is not of the kind that is written.

    What killed processes left half-written beside it is removed.

    Args:
        path: The file that is to be written; it may be missing.
        sign: Bytes that stand in the first 64 KiB of each file of that kind.
        what: What such a file is called, for example `a card`.
        overwrite: Whether to write over it all the same.

    Raises:
        VitreousError: If another file stands there, or a folder.
    """
    file = Path(path)
    if file.is_dir():
        raise VitreousError(f"{file} is a folder, expected a file; choose another --out")
    tidy(file.parent)
    if overwrite or not file.is_file():
        return
    try:
        with file.open("rb") as opened:
            own = sign in opened.read(HEAD)
    except OSError:
        own = False
    if not own and file.stat().st_size:
        raise VitreousError(
            f"{file} is there and is not {what} that vitreous wrote; choose another --out, or "
            "--overwrite to replace it"
        )


def _byproduct(name: str) -> bool:
    return name in BYPRODUCTS or name.startswith(".vitreous-")


NAMES = {
    "run": "a training run",
    "masks": "masks",
    "model": "a model",
    "explanations": "explanations",
    "activations": "activations",
    "composites": "composites",
    "evaluation": "results",
    "sweep": "a sweep",
    "demo": "a demo",
}


def _article(kind: str) -> str:
    return NAMES.get(kind, kind)
