"""One reader for every layout: the same images, labels, masks and groups come out of each."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_recipe, write_masked_set
from vitreous.config import build
from vitreous.data.dataset import Dataset
from vitreous.data.readers import read_dataset
from vitreous.errors import ImageError, VitreousError
from vitreous.evaluation.test_sets import read_set
from vitreous.training import Recipe, train

CLASSES = ("class_0", "class_1", "class_2")
UNMASKED = "class_1/3.png"


def rows(root: Path) -> list[tuple[str, str, bytes, bytes | None]]:
    """(name, class, image, mask) of every image, in order."""
    found = []
    for file in sorted((root / "images").rglob("*.png")):
        name = file.relative_to(root / "images").as_posix()
        mask = None if name == UNMASKED else (root / "masks" / name).read_bytes()
        found.append((name, file.parent.name, file.read_bytes(), mask))
    return found


def as_folders(root: Path) -> Dataset:
    (root / "masks" / UNMASKED).unlink()
    return read_dataset(root / "images", masks=root / "masks")


def as_nested_folders(root: Path) -> Dataset:
    for name, _, _, _ in rows(root):
        for kind in ("images", "masks"):
            folder, _, file = (root / kind / name).as_posix().rpartition("/")
            Path(folder, "deep", "er").mkdir(parents=True, exist_ok=True)
            os.rename(root / kind / name, Path(folder, "deep", "er", file))
    (root / "masks" / "class_1/deep/er/3.png").unlink()
    return read_dataset(root / "images", masks=root / "masks")


def as_csv(root: Path) -> Dataset:
    lines = ["filename,label,mask,group"]
    for name, label, _, mask in rows(root):
        lines.append(f"images/{name},{label},{f'masks/{name}' if mask else ''},{label[-1]}b")
    (root / "table.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return read_dataset(root / "table.csv")


def as_shards(root: Path) -> Dataset:
    (root / "shards").mkdir()
    for number in (0, 1):
        with tarfile.open(root / "shards" / f"{number}.tar", "w") as archive:
            for name, label, image, mask in rows(root)[7 * number : 7 + 8 * number]:
                key = name.removesuffix(".png").replace("/", "_")
                entry = json.dumps({"label": label, "group": f"{label[-1]}b"}).encode()
                members = {"mask.png": mask, "png": image, "json": entry}
                for extension, content in members.items():
                    if content is not None:
                        member = tarfile.TarInfo(f"{key}.{extension}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return read_dataset(root / "shards")


def as_parquet(root: Path) -> Dataset:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number in (0, 1):
        part = rows(root)[7 * number : 7 + 8 * number]
        table = arrow.table(
            {
                "image": [image for _, _, image, _ in part],
                "label": [label for _, label, _, _ in part],
                "mask": arrow.array([mask for *_, mask in part], arrow.binary()),
                "group": [f"{label[-1]}b" for _, label, _, _ in part],
            }
        )
        (root / "tables").mkdir(exist_ok=True)
        parquet.write_table(table, root / "tables" / f"{number}.parquet", row_group_size=3)
    return read_dataset(root / "tables")


def hugging_face(root: Path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "mask": datasets.Image(),
            "group": datasets.Value("string"),
        }
    )
    values = {
        "image": [{"bytes": image, "path": name} for name, _, image, _ in rows(root)],
        "label": [CLASSES.index(label) for _, label, _, _ in rows(root)],
        "mask": [mask and {"bytes": mask, "path": None} for *_, mask in rows(root)],
        "group": [f"{label[-1]}b" for _, label, _, _ in rows(root)],
    }
    return datasets.Dataset.from_dict(values, features=features)


def as_hugging_face_on_disk(root: Path) -> Dataset:
    hugging_face(root).save_to_disk(str(root / "saved"), num_shards=2)
    return read_dataset(root / "saved")


def as_hugging_face_parquet(root: Path) -> Dataset:
    hugging_face(root).to_parquet(str(root / "hub" / "train-00000-of-00001.parquet"))
    return read_dataset(root / "hub" / "train")


LAYOUTS = [
    as_folders,
    as_nested_folders,
    as_csv,
    as_shards,
    as_parquet,
    as_hugging_face_on_disk,
    as_hugging_face_parquet,
]
TABLES = LAYOUTS[2:]
Layout = Callable[[Path], Dataset]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_masked_set(tmp_path)
    return tmp_path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_items(layout: Layout, root: Path) -> None:
    expected = rows(root)
    dataset = layout(root)
    assert dataset.class_names == CLASSES and len(dataset) == len(expected) == 15
    assert len({dataset.name(i) for i in range(15)}) == 15
    # What worker processes get is a copy.
    for copy in (dataset, pickle.loads(pickle.dumps(dataset.select(range(15))))):
        for index, (_, label, image, mask) in enumerate(expected):
            item = copy[index]
            assert CLASSES[item.label] == label
            assert np.array_equal(np.asarray(item.image), Image.open(io.BytesIO(image)))
            assert (item.mask is None) == (mask is None) != copy.masks.has(index)
            if mask is not None:
                bright = np.asarray(Image.open(io.BytesIO(mask))) > 127
                assert np.array_equal(item.mask[0].numpy() > 0.5, bright)
            assert copy.images.content(index) == image
            assert copy.masks.content(index) == (mask or b"")


@pytest.mark.parametrize("layout", TABLES)
def test_groups_travel_with_every_table(layout: Layout, root: Path) -> None:
    dataset = layout(root)
    assert dataset.group_names == ("0b", "1b", "2b")
    assert all(dataset.group(i) == dataset.label(i) for i in range(15))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stamp_changes_with_its_file(layout: Layout, root: Path) -> None:
    dataset = layout(root)
    before, mask_before = dataset.key(0), dataset.masks.stamp(0)
    assert dataset.key(0) == before and dataset.masks.stamp(8) == ()
    for file in root.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(10**9, 10**9))
    assert dataset.key(0) != before and dataset.masks.stamp(0) != mask_before
    content = dataset.key(0, content=True)
    for file in root.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(2 * 10**9, 2 * 10**9))
    assert dataset.key(0, content=True) == content


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_evaluation_takes_every_layout(layout: Layout, root: Path) -> None:
    labels = layout(root).labels
    place = {
        "as_csv": "table.csv",
        "as_shards": "shards",
        "as_parquet": "tables",
        "as_hugging_face_on_disk": "saved",
        "as_hugging_face_parquet": "hub/train-00000-of-00001.parquet",
    }.get(layout.__name__, "images")
    names = tuple(reversed(CLASSES))
    (test_set,) = read_set("folder", root / place, class_names=names, num_classes=3)
    accepted = [test_set.accepted[t] for t in test_set.targets]
    assert accepted == [(2 - label,) for label in labels]
    assert test_set.class_labels().labels.tolist() == (2 - labels).tolist()


@pytest.mark.parametrize("layout", [as_shards, as_parquet, as_csv])
def test_training_takes_every_layout_and_comes_to_the_same(layout: Layout, root: Path) -> None:
    runs = {}
    layout(root)
    (root / "masks" / UNMASKED).unlink()
    place = {"as_csv": "table.csv", "as_shards": "shards", "as_parquet": "tables"}
    for name in ("images", place[layout.__name__]):
        values = tiny_recipe(root, training={"epochs": 1, "batch_size": 4, "trackers": []})
        values["data"] = {**values["data"], "images": str(root / name), "require_masks": False}
        if name != "images":
            values["data"]["masks"] = None
        train(build(Recipe, values), root / f"run_{name}", quiet=True)
        runs[name] = (root / f"run_{name}" / "model.safetensors").read_bytes()
    assert len(set(runs.values())) == 1


def test_integer_folder_names_are_read_as_numbers(tmp_path: Path) -> None:
    for name in range(12):
        (tmp_path / str(name)).mkdir()
        Image.new("RGB", (4, 4), (name, 0, 0)).save(tmp_path / str(name) / "a.png")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == tuple(map(str, range(12)))
    assert [dataset[i].image.getpixel((0, 0))[0] for i in range(12)] == dataset.labels.tolist()
    (test_set,) = read_set("folder", tmp_path, num_classes=12)
    assert [test_set.accepted[t] for t in test_set.targets] == [(i,) for i in range(12)]
    os.rename(tmp_path / "11", tmp_path / "eleven")
    assert read_dataset(tmp_path).class_names[:3] == ("0", "1", "10")


def test_a_flat_folder_has_no_labels(root: Path) -> None:
    flat = read_dataset(root / "images" / "class_0", masks=root / "masks" / "class_0")
    assert len(flat) == 5 and set(flat.labels) == {-1} and flat[0].mask is not None
    with pytest.raises(VitreousError, match="holds no class folders"):
        read_dataset(root / "images" / "class_0", labelled=True)


def test_what_is_passed_over_is_named(root: Path) -> None:
    (root / "images" / "notes.txt").write_text("x")
    (root / "images" / "class_0" / "deep").mkdir()
    (root / "images" / "class_0" / "deep" / "thumbs.db").write_text("x")
    (root / "images" / "class_0" / ".hidden.png").write_text("x")
    (root / "images" / "empty").mkdir()
    Image.new("RGB", (4, 4)).save(root / "images" / "stray.png")
    (root / "masks" / "class_0" / "2.png").unlink()
    (root / "masks" / "class_2" / "4.png").unlink()
    (root / "masks" / "class_0" / "9.png").write_bytes(b"x")
    dataset = read_dataset(root / "images", masks=root / "masks")
    assert len(dataset) == 15 and len(dataset.class_names) == 3
    found = {entry.what.split(" in /")[0]: entry.names for entry in dataset.left_out}
    assert found == {
        "files that are no images": ("class_0/deep/thumbs.db", "notes.txt"),
        "hidden files": ("class_0/.hidden.png",),
        "images in no class folder": ("stray.png",),
        "folders without images": ("empty",),
        "images without a mask": ("class_0/2.png", "class_2/4.png"),
        "masks without an image": ("class_0/9.png",),
    }


def test_what_is_passed_over_reaches_the_note_of_the_run(root: Path) -> None:
    (root / "images" / "notes.txt").write_text("x")
    values = tiny_recipe(root, training={"epochs": 1, "batch_size": 16, "trackers": []})
    results = train(build(Recipe, values), root / "run", quiet=True)
    assert results.extra["split"]["passed_over"] == ["1 files that are no images (notes.txt)"]


def test_several_splits_are_named(root: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = hugging_face(root)
    parts = {"train": table, "validation": table.select([0, 1])}
    datasets.DatasetDict(parts).save_to_disk(str(root / "both"))
    with pytest.raises(VitreousError, match=r"splits train, validation; give one .*both/train"):
        read_dataset(root / "both")
    assert len(read_dataset(root / "both" / "validation")) == 2
    for name, part in parts.items():
        part.to_parquet(str(root / "hub" / f"{name}-00000-of-00001.parquet"))
    with pytest.raises(VitreousError, match="splits train, validation"):
        read_dataset(root / "hub")


def test_classes_of_a_table_are_matched_by_name(root: Path) -> None:
    as_hugging_face_on_disk(root)
    again = read_dataset(root / "saved", ("class_2", "class_1", "class_0", "more"))
    assert again.labels.tolist() == [2] * 5 + [1] * 5 + [0] * 5
    with pytest.raises(VitreousError, match=r"unknown class 'class_0'"):
        read_dataset(root / "saved", ("class_2", "class_1"))


def test_broken_tables_and_shards_are_told_in_a_line(root: Path) -> None:
    dataset = as_parquet(root)
    file = root / "tables" / "1.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(VitreousError, match=r"1.parquet is not intact"):
        read_dataset(root / "tables")
    file.write_bytes(b"nothing")
    with pytest.raises(VitreousError, match=r"1.parquet is not intact"):
        pickle.loads(pickle.dumps(dataset))[10]
    as_shards(root)
    shard = root / "shards" / "0.tar"
    shards = read_dataset(root / "shards")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ImageError, match=r"0.tar/.* is cut short"):
        shards[3]
    with pytest.raises(VitreousError, match=r"0.tar is not an intact tar file"):
        read_dataset(root / "shards")
    (root / "x.bin").write_bytes(b"x")
    with pytest.raises(VitreousError, match="of an unknown kind; expected a folder of class"):
        read_dataset(root / "x.bin")


def test_samples_of_a_shard_without_an_image_are_named(root: Path) -> None:
    as_shards(root)
    with tarfile.open(root / "shards" / "0.tar", "a") as archive:
        for name in ("lost.cls", "README.md"):
            archive.addfile(tarfile.TarInfo(name))
    found = {entry.what: entry.names for entry in read_dataset(root / "shards").left_out}
    assert found["labels without an image"] == ("0.tar/lost.cls",)
    assert found["files that are no images"] == ("0.tar/README.md",)


def test_names_that_are_not_utf8_are_read_and_can_be_written(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/set/caf\xe9"
    os.makedirs(folder)
    Image.new("RGB", (4, 4), (7, 7, 7)).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", folder + b"/p\xff.png")
    dataset = read_dataset(tmp_path / "set")
    assert dataset.name(0) == r"caf\xe9/p\xff.png" and dataset.class_names == (r"caf\xe9",)
    assert dataset[0].image.getpixel((0, 0)) == (7, 7, 7) and dataset.key(0)
    json.dumps([dataset.name(0), *dataset.class_names]).encode()
