"""A small workplace with good inputs, and the property that every bad one is held to.

Accepted and right (status 0), or exactly one line and status 1; no traceback; nothing outside the
folder `out` is made, changed or removed.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from helpers import TINY_MODEL, make_run, tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.io import write_json
from vitreous.models import load_model, save_model

OUT = "out"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: Its exit status.
        line: What it said on stderr, where that is one line; all of it where it is not.
        shown: What it printed.
    """

    status: int
    line: str
    shown: str


class BrokenPromise(AssertionError):
    """A command that did not keep to the property."""


def make_workplace(root: Path) -> Path:
    """Write good inputs of every kind, in small: images, masks, tables, a model, a run, a recipe.

    All paths in them are relative to the folder.
    """
    write_masked_set(root, classes=2, per_class=3)
    names = [f"class_{label}/{index}.png" for label in range(2) for index in range(3)]
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((f"images/{n}", n.split("/")[0]) for n in names)]
        )
    size, options = TINY_MODEL["image_size"], TINY_MODEL["options"]
    torch.manual_seed(0)
    model = load_model(
        TINY_MODEL["name"],
        pretrained=False,
        image_size=size,
        num_classes=2,
        class_names=["class_0", "class_1"],
        **options,
    )
    save_model(model, root / "model")
    values = tiny_recipe(Path())
    values["data"] |= {"images": "images", "masks": "masks", "validation_share": 0.34}
    values["training"] |= {"epochs": 1, "samples": 0}
    (root / "recipe.yaml").write_text(yaml.safe_dump(values))
    (root / "run").mkdir()
    make_run(root / "run", "run")
    write_json(root / "small" / "results.json", {"version": 1, "model": "small", "records": []})
    boxes = {name: [4, 4, 20, 20] for name in names}
    write_json(root / "boxes.json", boxes)
    write_json(root / "coco.json", coco(names))
    brain(root / "brain", root / "images" / "class_0")
    return root


def coco(names: list[str]) -> dict[str, object]:
    """COCO annotations of a square in each image of 40 × 40 pixels."""
    square = [[4, 4, 30, 4, 30, 30, 4, 30]]
    return {
        "images": [
            {"id": i, "file_name": name, "width": 40, "height": 40} for i, name in enumerate(names)
        ],
        "annotations": [{"image_id": i, "segmentation": square} for i in range(len(names))],
    }


def brain(folder: Path, images: Path) -> None:
    """A recording of 12 neuroids, 3 repetitions, for 12 noise images."""
    random = np.random.default_rng(0)
    (folder / "stimuli").mkdir(parents=True)
    rows = [("stimulus_id", "object")]
    for index in range(12):
        pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "stimuli" / f"s{index}.png")
        rows.append((f"s{index}", f"o{index % 3}"))
    np.save(folder / "responses.npy", random.random((12, 12, 3)).astype(np.float32))
    with (folder / "stimuli.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def tree(root: Path) -> dict[bytes, str]:
    """Everything below a folder but `out`, with what is in it."""
    content = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if folder == os.fsencode(root) and OUT.encode() in folders:
            folders.remove(OUT.encode())
        for name in folders:
            content[os.path.join(folder, name)] = "folder"
        for name in files:
            path = os.path.join(folder, name)
            content[path] = "link" if os.path.islink(path) else _digest(path)
    return content


DIGESTS: dict[tuple[bytes | int, ...], str] = {}
SETTLED = 1e8
"""Nanoseconds after which the clock of the file system has surely gone on."""


def _digest(path: bytes) -> str:
    """What is in a file; it is read again where anything was written to it or its name."""
    if not os.path.isfile(path):
        return "special"
    about = os.stat(path)
    key = (path, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if key in DIGESTS:
        return DIGESTS[key]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if time.time_ns() - about.st_ctime_ns > SETTLED:  # else it may change within one tick
        DIGESTS[key] = digest
    return digest


def changes(before: dict[bytes, str], after: dict[bytes, str]) -> list[str]:
    """What was made, changed or removed."""
    names = sorted(before.keys() | after.keys())
    return [os.fsdecode(n) for n in names if before.get(n) != after.get(n)]


class Bench:
    """Runs commands in a workplace and holds them to the property.

    Args:
        good: A workplace with good inputs.
        root: An own copy of it is made here, to be spoilt.
    """

    def __init__(self, good: Path, root: Path):
        self.root = root
        shutil.copytree(good, root, dirs_exist_ok=True, symlinks=True)

    def run(self, arguments: list[str]) -> Outcome:
        """Run a command in the workplace.

        Raises:
            BrokenPromise: If it does not keep to the property; says how.
        """
        before = tree(self.root)
        outcome = call(arguments, self.root)
        if outcome.status not in (0, 1):
            raise BrokenPromise(f"status {outcome.status}: {outcome.line}")
        if outcome.status == 1 and (
            not outcome.line.startswith("vitreous: ") or outcome.line.count("\n") != 1
        ):
            raise BrokenPromise(f"not one line: {outcome.line}")
        if changed := changes(before, tree(self.root)):
            raise BrokenPromise(f"outside {OUT}: {', '.join(changed)}")
        return outcome

    def clear(self) -> None:
        """Remove what commands wrote."""
        shutil.rmtree(self.root / OUT, ignore_errors=True)


def call(arguments: list[str], root: Path) -> Outcome:
    """Run a command in this process, in a folder.

    Raises:
        BrokenPromise: If it ends with another exception than `SystemExit`.
    """
    said, shown = screen(errors="backslashreplace"), screen(errors="strict")
    with (
        contextlib.chdir(root),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(shown),
    ):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0) if isinstance(end.code, int | None) else 1
        except Exception as error:
            place = _place(error)
            raise BrokenPromise(f"{type(error).__name__} at {place}: {error}") from error
    return Outcome(status, written(said), written(shown))


def screen(errors: str) -> io.TextIOWrapper:
    """What stands for a terminal of UTF-8: it refuses what no terminal could show."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors)


def written(stream: io.TextIOWrapper) -> str:
    """What was printed."""
    stream.flush()
    stream.seek(0)
    return stream.read()


def _place(error: BaseException) -> str:
    """The last line of the package that an exception passed."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "vitreous" in Path(file).parts:
            place = f"{Path(file).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def seed_of(text: str) -> int:
    """A number that follows from a text, the same in every process."""
    return zlib.crc32(text.encode())


@contextlib.contextmanager
def writable(root: Path) -> Iterator[None]:
    """Give leave to remove everything below a folder at the end."""
    try:
        yield
    finally:
        for folder, _, _ in os.walk(root):
            os.chmod(folder, 0o755)


def as_json(value: object) -> str:
    """JSON with what JSON does not have: NaN and infinities."""
    return json.dumps(value)
