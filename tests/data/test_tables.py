"""The CSV reader: what it takes, and the one line that tells of what it does not."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitreous.data.readers import read_dataset
from vitreous.data.readers.tables import Columns, read_csv, read_rows
from vitreous.errors import ImageError, VitreousError
from vitreous.evaluation.test_sets import read_set

ROWS = "path,label,group\na.png,cat,x\nb.png,dog,\n"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("column", ["path", "file", "filename", "image"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_read(tmp_path: Path, column: str, encoding: str, end: str) -> None:
    text = ROWS.replace("path", column).replace("cat", "Kätzchen, klein").replace("\n", end)
    text = text.replace("Kätzchen, klein", '"Kätzchen, klein"') + end
    dataset = read_csv(written(tmp_path, text.encode(encoding)))
    assert [dataset.name(i) for i in range(2)] == ["a.png", "b.png"]
    assert dataset.class_names == ("Kätzchen, klein", "dog") and dataset.labels.tolist() == [0, 1]
    assert dataset.group_names == ("x",) and dataset.groups.tolist() == [0, -1]


def test_numbers_are_classes_unless_they_are_names(tmp_path: Path) -> None:
    path = written(tmp_path, "path,label\na.png,10\nb.png,2\n")
    assert read_csv(path).labels.tolist() == [10, 2] and read_csv(path).class_names == ()
    named = read_csv(path, ["2", "10"])
    assert named.labels.tolist() == [1, 0] and named.class_names == ("2", "10")
    path = written(tmp_path, "path,label\na.png,10\nb.png,dog\n")
    assert read_csv(path).class_names == ("10", "dog")
    with pytest.raises(VitreousError, match=r"unknown class '10'"):
        read_csv(path, ["cat", "dog"])


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path, "path,kind,site\na.png,1,x\n")
    dataset = read_csv(path, columns=Columns("kind", "site"))
    assert dataset.labels.tolist() == [1] and dataset.group_names == ("x",)
    assert read_csv(path).labels.tolist() == [-1]
    with pytest.raises(VitreousError, match=r"expected the columns path,label.*found path, kind"):
        read_dataset(path, labelled=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ROWS.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (ROWS.encode("utf-16-le"), "is UTF-16; save it as UTF-8"),
        (ROWS.replace("dog", "Hündin").encode("latin-1"), r"not UTF-8 \(byte 0xfc in line 3"),
        (ROWS + "c.png,cat\n", r"row 4 has 2 fields, expected 3 \(path, label, group\)"),
        (ROWS + "c.png,cat,x,y\n", "row 4 has 4 fields, expected 3"),
        (ROWS + '"c.png,cat,x\nd.png,cat,x\n', "row 4: a quote is not closed"),
        (ROWS + '"c"d,cat,x\n', "row 4: "),
        (ROWS + ",cat,x\n", "row 4 has no path"),
        (ROWS + "c.png, ,x\n", "row 4 has no label"),
        (ROWS + "c\0.png,cat,x\n", "has a NUL in line 4"),
        (ROWS + f"{'é' * 128},cat,x\n", "row 4 names a file of 256 bytes; file systems take 255"),
        ("path,label,label\na.png,1,2\n", "two columns called 'label'"),
        ("picture,label\na.png,1\n", "found picture, label"),
        ("path,label\n", "found no rows"),
        ("", "found no rows"),
        (b"\0", "NUL"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(VitreousError, match=message) as told:
        read_dataset(written(tmp_path, content), labelled=True)
    assert "\n" not in str(told.value) and "t.csv" in str(told.value)


def test_a_missing_file_is_told_when_it_is_read(tmp_path: Path) -> None:
    dataset = read_csv(written(tmp_path, ROWS))
    assert dataset.images.stamp(0) == ()
    with pytest.raises(ImageError, match=r"a\.png"):
        dataset[0]
    with pytest.raises(ImageError, match=r"a\.png"):
        dataset.images.content(0)
    with pytest.raises(VitreousError, match=r"no file at .*none\.csv"):
        read_csv(tmp_path / "none.csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells, cells), min_size=1))
def test_rows_come_back_as_they_were_written(tmp_path: Path, rows) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("path", "label", "group"), *rows])
    header, found = read_rows(written(tmp_path, text.getvalue()))
    assert header == ["path", "label", "group"]
    assert [tuple(row.values()) for _, row in found] == rows
    assert [number for number, _ in found] == list(range(2, len(rows) + 2))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from([b"", b"path,label\n", b"path,label,mask,group\n"]))
def test_any_bytes_are_read_or_told_in_a_line(tmp_path: Path, body: bytes, head: bytes) -> None:
    path = written(tmp_path, head + body)
    try:
        dataset = read_csv(path)
    except VitreousError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert len(dataset) and isinstance(dataset.labels, np.ndarray)
        assert all(dataset.name(i) and dataset.key(i) >= 0 for i in range(len(dataset)))


def test_absolute_paths_are_matched_with_masks_below_the_table(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        for kind, value in (("images", 9), ("masks", 255)):
            file = tmp_path / kind / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), value).save(file)
    table = written(
        tmp_path / "images",
        f"path,label\n{tmp_path}/images/b/1.png,1\n{tmp_path}/images/a/1.png,0\n",
    )
    dataset = read_dataset(table, masks=tmp_path / "masks", require_masks=True)
    assert [dataset.masks.path(i).parent.name for i in range(2)] == ["b", "a"]


def test_groups_may_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/b.png", "y/c.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / name)
    table = tmp_path / "groups.csv"
    table.write_text("file,group\ny/c.png,night\nx/a.png,day\nz/d.png,day\n")
    (found,) = read_set("folder", tmp_path / "set", num_classes=2, groups=table)
    assert found.dataset.group_names == ("day", "night")
    assert found.dataset.groups.tolist() == [0, -1, 1]
    assert [str(entry) for entry in found.dataset.left_out] == [
        "1 rows of groups.csv without an image (z/d.png)",
        "1 images without a group in groups.csv (x/b.png)",
    ]
    table.write_text("file,group\nc.png,night\n")
    with pytest.raises(VitreousError, match=r"none of the 3 images; they are called like x/a.png"):
        read_set("folder", tmp_path / "set", num_classes=2, groups=table)
    with pytest.raises(VitreousError, match="expected the columns path,group, found path"):
        read_set("folder", tmp_path / "set", num_classes=2, groups=written(tmp_path, "path\na\n"))
