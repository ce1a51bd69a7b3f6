"""Hostile files by generation: right ones with parts replaced, and bytes of formats changed.

Each strategy gives `Hostile`: the files to write, and the command that reads them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from faults.bench import coco
from faults.damage import (
    ODD_TEXTS,
    as_json,
    as_yaml,
    changed,
    scratched,
    structured,
)
from helpers import make_results, tiny_recipe

NAMES = [f"class_{label}/{index}.png" for label in range(2) for index in range(3)]


@dataclasses.dataclass(frozen=True)
class Hostile:
    """Files to write, and what reads them.

    Attributes:
        files: Path in the workplace → content.
        command: What is run.
    """

    files: dict[str, bytes]
    command: str


def _file(
    name: str, content: st.SearchStrategy[bytes], *commands: str
) -> st.SearchStrategy[Hostile]:
    made = st.tuples(content, st.sampled_from(commands))
    return made.map(lambda pair: Hostile({name: pair[0]}, pair[1]))


def _recipe() -> dict[str, Any]:
    values = tiny_recipe(Path())
    values["data"] |= {"images": "images", "masks": "masks", "validation_share": 0.34}
    values["training"] |= {"epochs": 1, "samples": 0}
    return values


SHOW = "train bad.yaml --show"
RECIPES = _file("bad.yaml", structured(_recipe(), as_yaml), SHOW, "train bad.yaml --settings")

KEYS = [
    *("optimizer.lr", "training.epochs", "training.seed", "model.name", "data.name", "adversary"),
    *("objectives.relevance", "schedule.name", "training", "transforms.train", "model.options"),
]
OPTION_NAMES = st.one_of(st.sampled_from(KEYS), st.text("abc.-_=é\0", max_size=12))
OPTIONS = st.lists(st.tuples(OPTION_NAMES, st.one_of(ODD_TEXTS, st.text(max_size=12))), max_size=3)


@st.composite
def _options(draw: st.DrawFn) -> Hostile:
    words = [word for name, text in draw(OPTIONS) for word in (f"--{name}", text)]
    return Hostile({}, "\x1f".join(["train", "recipe.yaml", "--show", *words]))


def _table(head: list[str], rows: list[list[str]]) -> bytes:
    return "\n".join([",".join(head), *(",".join(row) for row in rows)]).encode()


CELLS = st.one_of(ODD_TEXTS, st.text(max_size=6), st.sampled_from(NAMES))
MEASURE = "evaluate model --data bad.csv --samples 1 --workers 0 --quiet --out out"


@st.composite
def _tables(draw: st.DrawFn) -> Hostile:
    rows = [[f"images/{name}", name.split("/")[0]] for name in NAMES]
    head = ["path", "label"]
    if draw(st.booleans()):
        head = draw(st.lists(CELLS, max_size=3))
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, 1))] = draw(CELLS)
    text = "\n".join([",".join(head), *(",".join(row) for row in rows)])
    content = text.encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        content = draw(scratched(content))
    return Hostile({"bad.csv": content}, MEASURE)


ROW = {
    "name": "class_0/0",
    "image": "images/class_0/0.png",
    "mask": "class_0/0.png",
    "source": "masks/class_0/0.png",
    "method": "png",
    "kept": True,
    "dropped": "",
    "width": 40,
    "height": 40,
    "area": 0.16,
    "agreement": None,
    "quality": 0.5,
    "digest": "",
}
MASKING = "mask images --method png --masks masks --minimum-pixels 1 --sheet 0 --out out"


@st.composite
def _manifests(draw: st.DrawFn) -> Hostile:
    rows = [draw(changed(ROW)) if draw(st.booleans()) else ROW for _ in range(2)]
    content = b"".join(as_json(row) + b"\n" for row in rows)
    if draw(st.integers(0, 3)) == 0:
        content = draw(scratched(content))
    restart = " --restart" if draw(st.booleans()) else ""
    marker = as_json({"kind": "masks", "version": 1})
    return Hostile({"out/.vitreous.json": marker, "out/manifest.jsonl": content}, MASKING + restart)


def _annotated(method: str, option: str, name: str) -> str:
    return f"mask images --method {method} --{option} {name} --minimum-pixels 1 --sheet 0 --out out"


COCO = _file("bad.json", structured(coco(NAMES[:2])), _annotated("coco", "annotations", "bad.json"))
BOXES = _file(
    "bad.json",
    structured({NAMES[0]: [4, 4, 20, 20], NAMES[1]: [[1, 1, 9, 9], [3, 3, 30, 30]]}),
    _annotated("boxes", "boxes", "bad.json"),
)
VOC_FILE = (
    b"<annotation><filename>0.png</filename><size><width>40</width><height>40</height></size>"
    b"<object><name>a</name><bndbox><xmin>4</xmin><ymin>4</ymin><xmax>30</xmax><ymax>30</ymax>"
    b"</bndbox></object></annotation>"
)
VOC = _file(
    "voc/0.xml",
    scratched(VOC_FILE),
    "mask --method boxes --boxes voc --minimum-pixels 1 --sheet 0 --out out",
)
NUMBERS = st.one_of(st.floats().map(str), st.integers(-9, 9).map(str), ODD_TEXTS)
YOLO = _file(
    "labels/class_0/0.txt",
    st.one_of(
        scratched(b"0 0.5 0.5 0.6 0.6\n1 0.1 0.1 0.9 0.1 0.9 0.9\n"),
        st.lists(NUMBERS, max_size=9).map(
            lambda words: " ".join(words).encode("utf-8", "surrogatepass")
        ),
    ),
    _annotated("yolo", "labels", "labels"),
)


def _results() -> dict[str, Any]:
    file = make_results("plain")
    records = [dataclasses.asdict(record) for record in file.records[:5]]
    for record in records:
        record["ci95"] = None if record["ci95"] is None else list(record["ci95"])
        record.pop("provenance", None)
    return {"version": 2, "model": "plain", "records": records, "extra": file.extra}


CARD = "report run --out out/card.html"
VERSIONS = st.sampled_from([1, 1, 2, 2, 0, -1, 3, 2**70, True, None, "2", 2.0, [2]])
FIRST_VERSION = {"value": 0.75, "n": 4, "ci95": [0.2, 0.95], "settings": {}}
"""What a record of version 1 holds besides its names: no provenance."""


@st.composite
def _any_results(draw: st.DrawFn) -> bytes:
    value = json.loads(json.dumps(_results(), default=str))
    if draw(st.booleans()):
        names = {"suite": "clean", "dataset": "photos", "metric": "top1"}
        value |= {"version": 1, "records": [names | FIRST_VERSION]}
    if draw(st.integers(0, 2)) == 0:
        value["version"] = draw(VERSIONS)
    return draw(structured(value))


RESULTS = _file("run/results.json", _any_results(), CARD)
SAMPLE = {"index": 1, "label": "thing", "files": {"picture": "0_picture.png", "mask": "0_mask.png"}}
SMALL = "small/results.json"
SMALL_CARD = "report small --out out/card.html"


def _in_a_small_run(name: str, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[Hostile]:
    """One file of a run whose results are few: most of a card's time goes into their figures."""
    results = as_json({"version": 1, "model": "small", "records": []})
    return content.map(lambda made: Hostile({SMALL: results, f"small/{name}": made}, SMALL_CARD))


SAMPLES = _in_a_small_run(
    "samples/samples.json",
    structured([SAMPLE | {"foreground_before": 0.5, "foreground_after": 0.6}, SAMPLE]),
)
METRICS = (
    {"step": 0, "split": "train", "loss": 3.0, "seconds": 0.1},
    {"step": 1, "split": "train", "loss": 2.5, "objectives": {"relevance": 0.1}},
    {"step": 1, "split": "val", "loss": 2.0, "top1": 0.5},
)


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    rows = [draw(changed(row)) if draw(st.booleans()) else row for row in METRICS]
    content = b"".join(as_json(row) + draw(ENDS) for row in rows)
    return draw(scratched(content)) if draw(st.integers(0, 2)) == 0 else content


ENDS = st.sampled_from([b"\n"] * 6 + [b"", b"\r\n", b"\n\n", b"\0\n", b"\xff\n"])
LINES = _in_a_small_run("metrics.jsonl", _lines())


@st.composite
def _predictions(draw: st.DrawFn) -> Hostile:
    head = ["file", "label", "prediction", "correct"]
    rows = [[name, "cat", "dog" if "1" in name else "cat", "True"] for name in NAMES]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from([head, *rows]))
        row[draw(st.integers(0, 3))] = draw(CELLS)
    text = "\n".join(",".join(row) for row in [head, *rows])
    content = text.encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        content = draw(scratched(content))
    settings = {"source": "photos", "change": None, "part": None}
    header = draw(structured({"name": "photos", "model": "", "settings": settings}))
    folder = "small/predictions/photos-12ab"
    files = {
        SMALL: as_json({"version": 1, "model": "small", "records": []}),
        f"{folder}/predictions.csv": content,
        f"{folder}/header.json": header,
    }
    return Hostile(files, SMALL_CARD)


LISTED = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {"a": "b"}}


@st.composite
def _safetensors(draw: st.DrawFn) -> Hostile:
    header = draw(structured(LISTED))
    length = len(header) if draw(st.booleans()) else draw(st.integers(0, 2**64 - 1))
    content = struct.pack("<Q", length) + header + bytes(16)
    command = draw(st.sampled_from(["explain images --model model", "export model"]))
    return Hostile({"model/model.safetensors": content}, f"{command} --out out")


def _picture(side: int = 12) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (9, 90, 200)).save(file, "PNG")
    return file.getvalue()


def tar_of(members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size, about.type = len(content), kind
            if kind != tarfile.REGTYPE:
                about.linkname, about.size = "/etc/hostname", 0
            archive.addfile(about, io.BytesIO(content))
    return file.getvalue()


MEMBERS = [("a/0.png", _picture()), ("a/0.cls", b"0"), ("a/1.png", _picture()), ("a/1.cls", b"1")]
MEMBER_NAMES = st.one_of(
    st.sampled_from(["../../x.png", "/x.png", "a", "a/", ".png", "0.cls", "a/0.png", "x" * 200]),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12),
)


@st.composite
def _members(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    members = list(MEMBERS)
    for _ in range(draw(st.integers(0, 3))):
        name, content = draw(st.sampled_from(MEMBERS))
        place = draw(st.integers(0, len(members) - 1))
        members[place] = (
            draw(MEMBER_NAMES) if draw(st.booleans()) else name,
            draw(scratched(content)) if draw(st.booleans()) else content,
        )
    return members


@st.composite
def _tars(draw: st.DrawFn) -> Hostile:
    kind = draw(st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE, tarfile.FIFOTYPE]))
    content = tar_of(draw(_members()), kind)
    if draw(st.booleans()):
        content = draw(scratched(content))
    return Hostile({"bad.tar": content}, MEASURE.replace("bad.csv", "bad.tar"))


SCORE = (
    "brain score model --assembly bad.npy --stimuli brain/stimuli --table brain/stimuli.csv "
    "--layers blocks.0 --metric ridge --splits 2 --cache out/cache --out out"
)


@st.composite
def _zips(draw: st.DrawFn) -> Hostile:
    file = io.BytesIO()
    members = [(f"s{i}.png", _picture(32)) for i in range(12)]
    for _ in range(draw(st.integers(0, 3))):
        members[draw(st.integers(0, 11))] = (draw(MEMBER_NAMES), draw(scratched(_picture())))
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([0, 8]))) as archive:
        for name, content in dict(members).items():
            archive.writestr(name or "x", content)
    content = file.getvalue()
    if draw(st.booleans()):
        content = draw(scratched(content))
    command = SCORE.replace("bad.npy", "brain/responses.npy").replace("brain/stimuli ", "bad.zip ")
    return Hostile({"bad.zip": content}, command)


CLASS_MAPS = _file(
    "bad.json",
    structured({"class_0": 0, "class_1": [1, "class_0"]}),
    "evaluate model --data images --class-map bad.json --samples 1 --workers 0 --quiet --out out",
)


def npy_of(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@st.composite
def _assemblies(draw: st.DrawFn) -> Hostile:
    shape = draw(st.one_of(st.just((12, 12, 3)), st.lists(st.integers(0, 13), max_size=4)))
    kind = draw(st.sampled_from(["f4", "f8", "i2", "?", "c8", "U2", "M8[s]"]))
    content = npy_of(np.random.default_rng(0).integers(0, 9, shape).astype("i4").astype(kind))
    if draw(st.booleans()):
        content = draw(scratched(content))
    table = _table(["stimulus_id", "object"], [[f"s{i}", f"o{i % 3}"] for i in range(12)])
    if draw(st.booleans()):
        table = draw(scratched(table))
    return Hostile({"bad.npy": content, "brain/stimuli.csv": table}, SCORE)


KINDS: dict[str, st.SearchStrategy[Hostile]] = {
    "recipes": RECIPES,
    "options": _options(),
    "tables": _tables(),
    "manifests": _manifests(),
    "coco": COCO,
    "boxes": BOXES,
    "voc": VOC,
    "yolo": YOLO,
    "results": RESULTS,
    "samples": SAMPLES,
    "JSON lines": LINES,
    "predictions": _predictions(),
    "safetensors": _safetensors(),
    "tar members": _tars(),
    "zip members": _zips(),
    "class maps": CLASS_MAPS,
    "assemblies": _assemblies(),
}
