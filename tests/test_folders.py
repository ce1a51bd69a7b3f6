"""Whose a folder and a file are: what we did not make is not written to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import TINY_MODEL, make_run, tiny_recipe, write_masked_set
from vitreous.cli import main
from vitreous.config import to_yaml
from vitreous.errors import VitreousError
from vitreous.folders import (
    MARKER,
    check_file,
    check_folder,
    claim_folder,
    folder_kind,
    removed_if_empty,
)
from vitreous.models import load_model, save_model


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def one_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def photos(folder: Path, suffix: str = ".png") -> Path:
    """Two cut-outs, which are pictures and could be overwritten by masks of their own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(2):
        image = Image.new("RGBA", (60, 60), (0, 90, 0, 0))
        image.paste((200, 0, 0, 255), (10, 10, 50, 50 - index))
        image.convert("RGB" if suffix == ".jpg" else "RGBA").save(folder / f"{index}{suffix}")
    return folder


def tiny(folder: Path) -> Path:
    options = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}
    model = load_model(TINY_MODEL["name"], pretrained=False, image_size=32, **options)
    return save_model(model, folder)


def train_arguments(root: Path, out: Path, **overrides) -> list[str]:
    write_masked_set(root / "set", classes=2, per_class=2)
    values = tiny_recipe(root / "set", **overrides)
    values["training"] = {**values["training"], "epochs": 1, "samples": 0}
    (root / "recipe.yaml").write_text(to_yaml(values))
    return ["train", str(root / "recipe.yaml"), "--out", str(out), "--quiet"]


def mask_into_the_pictures(root: Path) -> tuple[list[str], Path]:
    d = photos(root / "d")
    return ["mask", str(d), "--out", str(d), "--method", "alpha", "--sheet", "0"], d


def explain_into_the_pictures(root: Path) -> tuple[list[str], Path]:
    d = photos(root / "d")
    return ["explain", str(d), "--model", str(tiny(root / "model")), "--out", str(d)], d


def train_into_the_model(root: Path) -> tuple[list[str], Path]:
    model = tiny(root / "model")
    (root / "other").mkdir()
    arguments = train_arguments(root / "other", model)
    return [*arguments, "--model.name", str(model), "--model.options", "{}"], model


def train_into_a_foreign_folder(root: Path) -> tuple[list[str], Path]:
    foreign = root / "foreign"
    foreign.mkdir()
    (foreign / "config.json").write_text('{"mine": true}')
    (foreign / "metrics.jsonl").write_text('{"mine": true}\n')
    return train_arguments(root, foreign), foreign


def card_over_results(root: Path) -> tuple[list[str], Path]:
    run = make_run(root / "run", "plain")
    return ["report", str(run), "--out", str(run / "results.json")], run


def model_card_over_a_readme(root: Path) -> tuple[list[str], Path]:
    run = make_run(root / "run", "plain")
    (run / "README.md").write_text("# mine\n")
    return ["report", str(run), "--format", "markdown", "--out", str(run / "README.md")], run


def figures_into_the_pictures(root: Path) -> tuple[list[str], Path]:
    run, d = make_run(root / "run", "plain"), photos(root / "d")
    return ["report", str(run), "--format", "png", "--out", str(d)], d


def graph_over_weights(root: Path) -> tuple[list[str], Path]:
    model = tiny(root / "model")
    target = model / "model.safetensors"
    return ["export", str(model), "--format", "onnx", "--out", str(target)], model


def export_into_the_pictures(root: Path) -> tuple[list[str], Path]:
    model, d = tiny(root / "model"), photos(root / "d")
    return ["export", str(model), "--out", str(d)], d


CASES: list[Callable[[Path], tuple[list[str], Path]]] = [
    mask_into_the_pictures,
    explain_into_the_pictures,
    train_into_the_model,
    train_into_a_foreign_folder,
    card_over_results,
    model_card_over_a_readme,
    figures_into_the_pictures,
    graph_over_weights,
    export_into_the_pictures,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_is_there_stays_and_one_line_says_why(tmp_path, capsys, case):
    arguments, folder = case(tmp_path)
    before = contents(folder)
    assert main(arguments) == 1
    assert contents(folder) == before
    assert "--overwrite" in one_line(capsys)


@pytest.mark.parametrize("case", [train_into_a_foreign_folder, card_over_results])
def test_overwrite_writes_all_the_same(tmp_path, case):
    arguments, folder = case(tmp_path)
    before = contents(folder)
    assert main([*arguments, "--overwrite"]) == 0
    after = contents(folder)
    assert any(after[name] != content for name, content in before.items())


@pytest.mark.parametrize("case", [mask_into_the_pictures, explain_into_the_pictures])
def test_pictures_are_not_written_over_even_so(tmp_path, case):
    arguments, folder = case(tmp_path)
    before = contents(folder)
    assert main([*arguments, "--overwrite"]) == 1
    assert before.items() <= contents(folder).items()


def test_the_same_command_twice_needs_no_leave(tmp_path):
    d = photos(tmp_path / "d")
    (tmp_path / "run").mkdir()
    commands = [
        ["mask", str(d), "--method", "alpha", "--out", str(tmp_path / "masks")],
        ["report", str(make_run(tmp_path / "run", "x")), "--out", str(tmp_path / "card.html")],
        train_arguments(tmp_path, tmp_path / "trained"),
    ]
    for arguments in commands:
        assert main(arguments) == 0
        assert main(arguments) == 0


LEGACY = {
    "run": ("recipe.yaml", "metrics.jsonl"),
    "masks": ("_quality/settings.json", "manifest.jsonl"),
    "explanations": ("explanations.json", "maps.npz"),
    "evaluation": ("results.json",),
}


@pytest.mark.parametrize("kind", LEGACY)
def test_folders_of_before_there_were_markers_are_known(tmp_path, kind):
    for name in LEGACY[kind]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert folder_kind(tmp_path) == kind
    claim_folder(tmp_path, kind)
    assert json.loads((tmp_path / MARKER).read_text())["kind"] == kind


def test_a_folder_of_another_kind_is_refused_by_what_it_holds(tmp_path):
    claim_folder(tmp_path / "x", "masks")
    with pytest.raises(VitreousError, match="holds masks, not a training run"):
        check_folder(tmp_path / "x", "run")
    check_folder(tmp_path / "x", "run", also=("masks",))


def test_empty_folders_and_what_systems_leave_belong_to_nobody(tmp_path):
    for name in (".DS_Store", ".vitreous.lock", ".vitreous-0-1-abcdefgh.png"):
        (tmp_path / name).write_text("")
    check_folder(tmp_path, "run")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(VitreousError, match=r"did not make \(thesis.tex\)"):
        check_folder(tmp_path, "run")
    with pytest.raises(VitreousError, match="is a file, expected a folder"):
        check_folder(tmp_path / "thesis.tex", "run", overwrite=True)


@pytest.mark.parametrize("marker", ["", "{", "[]", '{"kind": 3}'])
def test_a_broken_marker_counts_for_nothing(tmp_path, marker):
    (tmp_path / MARKER).write_text(marker)
    (tmp_path / "thesis.tex").write_text("")
    assert folder_kind(tmp_path) is None
    with pytest.raises(VitreousError, match="did not make"):
        check_folder(tmp_path, "run")


def test_a_file_is_ours_by_its_head(tmp_path):
    file = tmp_path / "x.html"
    check_file(file, b"sign", "a card")
    file.write_bytes(b"<html> sign")
    check_file(file, b"sign", "a card")
    file.write_bytes(b"<html>" + bytes(1 << 17) + b"sign")
    with pytest.raises(VitreousError, match="is not a card that vitreous wrote"):
        check_file(file, b"sign", "a card")
    with pytest.raises(VitreousError, match="is a folder, expected a file"):
        check_file(tmp_path, b"sign", "a card", overwrite=True)


def test_explaining_into_the_folder_of_the_pictures_never_draws_over_them(tmp_path):
    d = photos(tmp_path / "d")
    model = str(tiny(tmp_path / "model"))
    arguments = ["explain", str(d / "0.png"), "--model", model, "--out", str(d), "--overwrite"]
    before = np.asarray(Image.open(d / "0.png"))
    assert main(arguments) == 1
    assert np.array_equal(np.asarray(Image.open(d / "0.png")), before)


def test_a_mistake_told_late_leaves_no_folder(tmp_path: Path, capsys) -> None:
    """The target is known to be none after the model is loaded and the folder claimed."""
    (image,) = photos(tmp_path / "d").glob("0.png")
    model, out = str(tiny(tmp_path / "model")), tmp_path / "new" / "out"
    line = ["explain", str(image), "--model", model, "--out", str(out), "--target", "nonsense"]
    assert main(line) == 1 and "nonsense" in one_line(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kept", ["o/rows/a.json", "o/.vitreous.lock", "b.txt"])
def test_what_came_to_stand_in_a_claimed_folder_stays(tmp_path: Path, kept: str) -> None:
    new, before = tmp_path / "new", tmp_path / "before"
    before.mkdir()
    with pytest.raises(VitreousError, match="late"), removed_if_empty():
        claim_folder(new / "o", "masks")
        claim_folder(before, "masks")
        (new / "o" / "rows").mkdir()
        (new / kept).write_text("kept")
        raise VitreousError("late")
    assert (new / kept).is_file() and before.is_dir()
    assert (new / "o").is_dir() == kept.startswith("o/")
    with removed_if_empty():
        claim_folder(tmp_path / "done", "masks")
    assert (tmp_path / "done" / MARKER).is_file()


@pytest.mark.parametrize("kind", ["file", "folder", "deep", "loop"])
def test_a_link_in_a_folder_of_ours_is_not_followed_out_of_it(tmp_path: Path, kind: str) -> None:
    """A folder may come from others, with our marker in it."""
    own, foreign = claim_folder(tmp_path / "own", "masks"), tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "x").write_text("theirs")
    (own / "a" / "b").mkdir(parents=True)
    (own / "within").symlink_to(own / "a")
    claim_folder(own, "masks")
    link = own / ("a/b/link" if kind == "deep" else "link")
    link.symlink_to({"file": foreign / "x", "loop": link}.get(kind, foreign))
    with pytest.raises(VitreousError, match="link is a link that leads out of") as caught:
        claim_folder(own, "masks")
    assert "\n" not in str(caught.value)
    assert claim_folder(own, "masks", overwrite=True) == own


def test_no_command_writes_through_a_link_in_its_folder(tmp_path: Path, capsys) -> None:
    pictures, out = photos(tmp_path / "d"), tmp_path / "masks"
    line = ["mask", str(pictures), "--out", str(out), "--method", "alpha", "--sheet", "4"]
    assert main(line) == 0
    foreign = tmp_path / "foreign"
    (out / "_quality").rename(foreign)
    (out / "_quality").symlink_to(foreign)
    before = contents(foreign)
    assert main([*line, "--restart"]) == 1 and "leads out of" in one_line(capsys)
    assert contents(foreign) == before


def test_a_way_back_out_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(VitreousError, match="which is not there"), removed_if_empty():
        claim_folder(tmp_path / "nowhere" / ".." / "x", "masks")
    assert (tmp_path / "x").is_dir() and not (tmp_path / "nowhere").exists()
    assert claim_folder(tmp_path / "x" / ".." / "y", "masks").is_dir()
