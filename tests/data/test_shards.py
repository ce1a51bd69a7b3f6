"""Test sets inside tar files: published archives as they are, and webdataset's shards."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from vitreous.errors import VitreousError
from vitreous.evaluation.test_sets import read_set

TREES = {
    "imagenet-v2-matched-frequency": ("0", "2", "10", "999"),
    "imagenet-v2-threshold-0.7": ("1", "11"),
    "imagenet-a": ("n01498041", "n01531178"),
    "imagenet-r": ("n01443537", "n01484850"),
    "imagenet-sketch": ("n01440764", "n01443537"),
    "imagenet-val": ("n01440764", "n01443537"),
}
CONTENT = io.BytesIO()
Image.new("RGB", (20, 16), (90, 120, 30)).save(CONTENT, "PNG")


def tree(root: Path, folders: tuple[str, ...]) -> Path:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for name in ("a.jpg", "b.jpg")[: 1 + number % 2]:
            Image.new("RGB", (20, 16), (10 * number, 120, 30)).save(root / folder / name)
    return root


def listed(test_set) -> list[tuple[str, str, tuple[int, ...]]]:
    """Folder, name and accepted classes of every picture, sorted."""
    found = []
    for i in range(len(test_set)):
        path = Path(test_set.dataset.name(i))
        assert test_set.dataset.images.open(i).size == (20, 16)
        found.append((path.parent.name, path.name, test_set.accepted[test_set.targets[i]]))
    return sorted(found)


@pytest.mark.parametrize("name", TREES)
def test_an_archive_is_read_as_the_folders_in_it(name: str, tmp_path: Path) -> None:
    folders = tree(tmp_path / "folders", TREES[name])
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / f"{name}.tar", "w") as archive:
        archive.add(folders, arcname=name)
        for other in (f"{name}/README.txt", f"{name}/{TREES[name][0]}/._a.jpg"):
            archive.addfile(tarfile.TarInfo(other))
    (expected,), (found,) = read_set(name, folders), read_set(name, tmp_path / "tar")
    assert listed(found) == listed(expected)
    assert [c.name for c in found.conventions] == [c.name for c in expected.conventions]


def test_a_corruption_in_an_archive_is_read_as_the_folders_in_it(tmp_path: Path) -> None:
    folders = tree(tmp_path / "folders/fog/3", ("n01440764", "n01443537"))
    place = tmp_path / "tar/fog/3"
    place.mkdir(parents=True)
    with tarfile.open(place / "0.tar", "w") as archive:
        archive.add(folders, arcname="3")
    (expected,) = read_set("imagenet-c", tmp_path / "folders", severities=(3,))
    (found,) = read_set("imagenet-c", tmp_path / "tar", severities=(3,))
    assert listed(found) == listed(expected)
    assert (found.settings, found.resize_mode) == (expected.settings, "as_is")


@pytest.mark.parametrize(("name", "label", "index"), [
    ("imagenet-v2-top-images", "10", 10),
    ("imagenet-a", "n01498041", 6),
    ("imagenet-r", "1", 1),
])  # fmt: skip
def test_shards_that_webdataset_wrote(name: str, label: str, index: int, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "000.tar")) as writer:
        writer.write({"__key__": "x", "png": CONTENT.getvalue(), "cls": label})
    (found,) = read_set(name, tmp_path)
    assert found.accepted[found.targets[0]] == (index,)


def test_what_does_not_belong_there_is_told(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "000.tar")) as writer:
        writer.write({"__key__": "x", "png": CONTENT.getvalue(), "cls": "n01440764"})
    with pytest.raises(VitreousError, match=r"1 classes that are not in it .n01440764"):
        read_set("imagenet-a", tmp_path)
    with webdataset.TarWriter(str(tmp_path / "000.tar")) as writer:
        writer.write({"__key__": "x", "png": CONTENT.getvalue()})
    with pytest.raises(VitreousError, match=r"no .cls beside it and lies in no folder of a class"):
        read_set("imagenet-v2-top-images", tmp_path)
    with tarfile.open(tmp_path / "000.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("README.txt"))
    with pytest.raises(VitreousError, match="hold no picture"):
        read_set("imagenet-sketch", tmp_path)
