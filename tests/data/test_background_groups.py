"""Objects on kinds of backgrounds: groups as the pixels have them, and sets dealt anew."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_vit
from vitreous.cli import main
from vitreous.commands.evaluate import Generate
from vitreous.commands.generating import write_set
from vitreous.data.composites.groups import find_kinds
from vitreous.data.dataset import Dataset
from vitreous.data.readers import READERS, read_dataset
from vitreous.data.readers.groups import balanced_rows
from vitreous.errors import VitreousError
from vitreous.models import save_model

# What stands in a photograph, around it, and on each kind of background; no two are alike.
OBJECTS = {"cow": (250, 10, 10), "duck": (10, 250, 10)}
KINDS = {"land": (120, 60, 20), "water": (20, 60, 180)}
AROUND = (200, 200, 200)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Twenty photographs of each class with masks, and ten backgrounds of each kind."""
    for name, color in OBJECTS.items():
        for index in range(20):
            pixels = np.full((24, 32, 3), AROUND, np.uint8)
            mask = np.zeros((24, 32), np.uint8)
            down, across = np.mgrid[:24, :32]
            thing = np.hypot(down - 9, (across - 12) / (1 + index % 5 / 10)) < 7
            pixels[thing], mask[thing] = (*color[:2], color[2] + index), 255
            for kind, array in (("photos", pixels), ("masks", mask)):
                file = tmp_path / kind / name / f"{index:02d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(file)
    for name, color in KINDS.items():
        (tmp_path / "grounds" / name).mkdir(parents=True)
        for index in range(10):
            shade = (color[0], color[1] + index, color[2])
            Image.new("RGB", (32, 32), shade).save(tmp_path / "grounds" / name / f"{index}.png")
    return {
        "objects": str(tmp_path / "photos"),
        "masks": str(tmp_path / "masks"),
        "backgrounds": str(tmp_path / "grounds"),
    }


def seen(data: Dataset) -> list[tuple[str, int, str, int]]:
    """Class, number of the object, kind, number of the background, read from the pixels alone."""
    rows = []
    for index in range(len(data)):
        item = data[index]
        assert item.mask is not None
        pixels, inside = np.asarray(item.image), item.mask[0].numpy() > 0
        thing = np.median(pixels[inside], axis=0)
        ground = np.median(pixels[~inside], axis=0)
        name = min(OBJECTS, key=lambda n: np.abs(thing[:2] - OBJECTS[n][:2]).sum())
        kind = min(KINDS, key=lambda n: np.abs(ground[::2] - KINDS[n][::2]).sum())
        rows.append((name, int(thing[2]) - 10, kind, int(ground[1]) - 60))
        assert data.group_names[item.group] == f"{name} on {kind}"
        assert data.class_names[item.label] == name
        assert not (np.abs(pixels.astype(int) - AROUND).sum(-1) < 30).any()  # what was around it
    return rows


def test_training_agrees_as_asked_and_validation_is_balanced_and_of_other_things(places):
    source = READERS["background_groups"](**places, agreement=0.875, size=40, per_object=1)
    split = source.load(seed=3)
    train, held = seen(split.train), seen(split.validation)
    counts = Counter((name, kind) for name, _, kind, _ in train)
    assert counts == {
        ("cow", "land"): 14,
        ("cow", "water"): 2,
        ("duck", "water"): 14,
        ("duck", "land"): 2,
    }
    assert split.note["groups"] == {f"{n} on {k}": c for (n, k), c in counts.items()}
    shown = Counter((name, kind) for name, _, kind, _ in held)
    assert shown == {(name, kind): 4 for name in OBJECTS for kind in KINDS}
    for field in ((0, 1), (2, 3)):  # objects, and backgrounds
        own, other = ({tuple(row[i] for i in field) for row in rows} for rows in (train, held))
        assert own and other and not own & other
    again, later = source.load(seed=4), READERS["background_groups"](**places, scenes_seed=1)
    assert seen(again.train) == train
    assert [row[3] for row in seen(later.load(0).train)] != [row[3] for row in train]


def test_homes_and_balanced_groups_are_those_asked_for(places):
    turned = READERS["background_groups"](**places, homes=("water", "land"), agreement=1.0)
    assert {(name, kind) for name, _, kind, _ in seen(turned.load(0).train)} == {
        ("cow", "water"),
        ("duck", "land"),
    }
    even = READERS["background_groups"](**places, balanced=True, validation_share=0.0, size=32)
    rows = seen(even.load(0).train)
    assert set(Counter(row[:3] for row in rows).values()) == {1} and len(rows) == 80


def test_a_written_set_has_a_column_of_groups_and_evaluate_tells_the_worst(places, tmp_path):
    out, run = tmp_path / "set", tmp_path / "model"
    generate = ["--generate.cutouts", places["objects"], "--generate.masks", places["masks"]]
    generate += ["--generate.backgrounds", places["backgrounds"], "--generate.size", "32"]
    background = ["--generate.factor", "background", "--generate.backgrounds-per-cutout", "1"]
    main(["evaluate", *generate, *background, "--out", str(out)])
    data = read_dataset(out / "list.csv")
    assert len(seen(data)) == 80
    save_model(tiny_vit(2, class_names=["cow", "duck"]), run)
    main(["evaluate", str(run), "--data", str(out / "list.csv"), "--quiet"])
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (worst,) = [r for r in results["records"] if r["metric"] == "worst_group_top1"]
    (table,) = run.rglob("predictions.csv")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = Counter(row["group"] for row in rows if row["correct"] == "True")
    assert worst["value"] == min(right[g] for g in data.group_names) / 20
    turned = ["--generate.factor", "rotation", "--generate.steps", "2", *generate]
    main(["evaluate", *turned, "--out", str(tmp_path / "turned")])
    assert len(list((tmp_path / "turned" / "images").rglob("*.png"))) == 40 * 2 * 2 * 4


def test_mistakes_with_kinds_are_told_in_one_line(places, tmp_path):
    make = READERS["background_groups"]
    with pytest.raises(VitreousError, match="one for each of 2 classes"):
        make(**places, homes=("land",)).load(0)
    with pytest.raises(VitreousError, match=r"no backgrounds 'see'; .*water"):
        make(**places, homes=("see", "water")).load(0)
    with pytest.raises(VitreousError, match="holds 0 kind of background"):
        find_kinds(tmp_path / "grounds" / "land", ["cow"])
    with pytest.raises(VitreousError, match="two shares in order"):
        make(**places, area=(0.5, 0.2)).load(0)
    with pytest.raises(VitreousError, match="no photographs with masks"):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        (tmp_path / "bare.csv").write_text("path,label\na.png,cow\n")
        make(**{**places, "objects": str(tmp_path / "bare.csv"), "masks": None}).load(0)
    for other in (tmp_path / "grounds" / "land").glob("[1-9].png"):
        other.unlink()
    with pytest.raises(VitreousError, match="one background of the kind land"):
        make(**places).load(0)
    with pytest.raises(
        VitreousError, match=r"agreement is of --generate\.factor background, found"
    ):
        write_set(
            Generate(
                cutouts=Path(places["objects"]),
                masks=Path(places["masks"]),
                backgrounds=Path(places["backgrounds"]),
                agreement=0.5,
            ),
            tmp_path / "never",
        )


def test_balanced_rows_have_groups_of_one_size_and_lose_or_repeat_no_more_than_needed():
    groups = np.array([0] * 9 + [1] * 4 + [2] * 6)
    few = balanced_rows(groups, "smallest", seed=0)
    assert Counter(groups[few].tolist()) == {0: 4, 1: 4, 2: 4} and len(set(few)) == 12
    many = balanced_rows(groups, "largest", seed=0)
    assert Counter(groups[many].tolist()) == {0: 9, 1: 9, 2: 9} and set(many) == set(range(19))
    assert set(Counter(many[groups[many] == 1].tolist()).values()) == {2, 3}
    assert (few != balanced_rows(groups, "smallest", seed=1)).any()


def test_the_balanced_source_needs_groups(places):
    source = READERS["background_groups"](**places, agreement=0.75, size=32)
    split = READERS["balanced"](source).load(0)
    assert set(Counter(split.train.groups.tolist()).values()) == {4}
    assert split.note["groups"] == {n: 4 for n in split.train.group_names}
    plain = READERS["folders"](places["objects"], places["masks"])
    with pytest.raises(VitreousError, match=r"needs the group .* add a column group"):
        READERS["balanced"](plain).load(0)
    with pytest.raises(ValueError, match="expected a source"):
        READERS["balanced"]()


def test_errors_are_shown_as_often_as_asked_and_the_rest_once(places, tmp_path):
    source = READERS["folders"](places["objects"], validation_share=0.25)
    names = [source.load(0).train.name(i) for i in range(30)]
    wrong = {names[0], names[7], names[20]}
    table = tmp_path / "predictions.csv"
    lines = [f"{name},{name not in wrong}" for name in [*names, "validation.png"]]
    table.write_text("file,correct\n" + "\n".join(reversed(lines)) + "\n")
    split = READERS["upweighted_errors"](str(table), source, factor=4).load(0)
    shown = Counter(split.train.name(i) for i in range(len(split.train)))
    assert shown == {name: 4 if name in wrong else 1 for name in names}
    assert (split.note["errors"], split.note["shown"]) == (3, 39)
    assert len(split.validation) == 10
    table.write_text("file,correct\n" + "\n".join(lines[1:]) + "\n")
    with pytest.raises(VitreousError, match=f"lacks 1 of 30 training images.*{names[0]}"):
        READERS["upweighted_errors"](str(table), source).load(0)
    table.write_text("file,answer\na,b\n")
    with pytest.raises(VitreousError, match="columns file,correct"):
        READERS["upweighted_errors"](str(table), source).load(0)
    with pytest.raises(ValueError, match="expected a source"):
        READERS["upweighted_errors"](str(table))
