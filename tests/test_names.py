"""Names that tell models and datasets apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitreous import VitreousError
from vitreous.names import distinct_names, folder_name


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> Path:
    for name in ("a/val", "b/val", "x/b/val", "A"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_best.pth.tar").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/val"], ["val"]),
        (["a/val", "b/val"], ["a/val", "b/val"]),
        (["b/val", "x/b/val", "A"], None),
        (["one/model_best.pth.tar"], ["model_best"]),
        (
            ["one/model_best.pth.tar", "two/model_best.pth.tar"],
            ["one/model_best", "two/model_best"],
        ),
        (["vit_base_patch16_224.augreg", "A"], ["vit_base_patch16_224.augreg", "A"]),
        (["hf_hub:timm/x", "a/val/"], ["hf_hub:timm/x", "val"]),
        (["a/../A", "."], None),
    ],
)
def test_names_are_the_shortest_that_differ(tree, paths, names):
    given = distinct_names(paths)
    assert len({folder_name(n) for n in given}) == len(paths)
    if names is not None:
        assert given == names


def test_a_name_of_its_own_is_kept_where_it_is_the_only_one(tree):
    assert distinct_names(["a/val", "b/val"], ["first", "second"]) == ["first", "second"]
    assert distinct_names(["a/val", "b/val"], ["model", "model"]) == ["a/val", "b/val"]


def test_the_same_one_twice_is_told(tree):
    for paths in (["a/val", "./a/val"], ["resnet50", "resnet50"]):
        with pytest.raises(VitreousError, match="cannot be told apart"):
            distinct_names(paths)


def test_folder_names_have_nothing_that_a_system_forbids():
    assert folder_name('a/b:c d\\e"*?<>|') == "a-b-c-d-e"
    assert folder_name("///") == "model"
