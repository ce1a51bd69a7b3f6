"""Settings: what does not fit is told in one line; words of older versions are still read."""

from __future__ import annotations

import pytest

from helpers import tiny_recipe
from vitreous.cli import current_options
from vitreous.config import build, merge, parse_overrides, read_yaml
from vitreous.errors import VitreousError, nearest
from vitreous.training.recipe import Recipe, load_recipe


def test_recipes_in_older_words_are_read_with_a_warning_that_names_the_new_ones(tmp_path) -> None:
    present = tiny_recipe(tmp_path)
    older = {**present, "views": present["transforms"], "probe": {"pictures": 3, "step": 0.25}}
    del older["transforms"]
    older["training"] = {**present["training"], "precision": "fp32"}
    with pytest.warns(FutureWarning) as told:
        recipe = build(Recipe, older)
    names = ("transforms", "robust_validation", "images", "step_size", "float32")
    for name in names:
        assert any(f"is now called '{name}'" in str(one.message) for one in told)
    assert recipe.transforms == build(Recipe, present).transforms
    assert recipe.robust_validation.images == 3 and recipe.robust_validation.step_size == 0.25
    assert recipe.training.precision == "float32"


def test_an_older_word_laid_over_a_recipe_changes_the_key_of_today() -> None:
    base = {"transforms": {"train": {"crop": {"size": 8}, "flip": {}}}}
    with pytest.warns(FutureWarning, match="'views' is now called 'transforms'"):
        merged = merge(base, {"views": {"train": {"crop": {"size": 4}}}})
    assert merged == {"transforms": {"train": {"crop": {"size": 4}, "flip": {}}}}


def test_older_options_are_read_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="'--picture' is now called '--image'"):
        assert current_options(["--picture", "a.jpg", "--steps", "3"]) == [
            *("--image", "a.jpg"),
            *("--steps", "3"),
        ]


def one_line(told) -> str:
    text = str(told.value)
    assert "\n" not in text and len(text) < 400, text
    return text


SETTINGS = [
    ("training.epochs", 0, "training.epochs: expected at least 1, found 0"),
    ("training.epochs", "many", "training.epochs: expected int, found str 'many'"),
    ("training.epochs", True, "training.epochs: expected int, found bool True"),
    ("training.epochs", 1.5, "training.epochs: expected int, found float 1.5"),
    ("training.epoch", 1, "unknown key 'training.epoch'; did you mean 'epochs'?"),
    (
        "training.batch_size",
        -3,
        "training.batch_size: expected at least 1 and at most 65536, found -3",
    ),
    ("training.validation_batch_size", 0, "expected at least 1 and at most 65536, found 0"),
    ("training.accumulation", 0, "training.accumulation: expected at least 1, found 0"),
    ("training.seed", -1, "training.seed: expected at least 0 and at most 4294967295, found -1"),
    ("training.seed", 2**70, "training.seed: expected at least 0 and at most 4294967295"),
    ("training.workers", -1, "training.workers: expected at least 0 and at most 512, found -1"),
    ("training.clip_norm", 0, "training.clip_norm: expected above 0, found 0.0"),
    ("training.clip_norm", -1.0, "training.clip_norm: expected above 0, found -1.0"),
    ("training.checkpoint_every", 0, "training.checkpoint_every: expected at least 1, found 0"),
    ("training.samples", -1, "training.samples: expected at least 0, found -1"),
    ("training.precision", "float8", "training.precision: found str 'float8'; did you mean"),
    ("training.trackers", "wandb", "training.trackers: expected a list, found str 'wandb'"),
    ("training", 3, "training: expected a mapping, found int 3"),
    ("training", None, "training: expected a mapping, found NoneType None"),
    ("optimizer.lr", 0, "optimizer.lr: expected above 0, found 0.0"),
    ("optimizer.lr", "-1e-4", "optimizer.lr: expected above 0, found -0.0001"),
    ("optimizer.lr", float("nan"), "optimizer.lr: expected a finite number, found nan"),
    ("optimizer.lr", "inf", "optimizer.lr: expected a finite number, found inf"),
    ("optimizer.lr", "1/0", "optimizer.lr: expected a number (2/255 is one too), found str '1/0'"),
    ("optimizer.lr", 10**400, "optimizer.lr: expected a number (2/255 is one too), found int 1000"),
    ("optimizer.lr", [1], "optimizer.lr: expected a number (2/255 is one too), found list [1]"),
    ("optimizer.weight_decay", -0.1, "optimizer.weight_decay: expected at least 0, found -0.1"),
    ("optimizer.betas", [0.9, 1.0], "optimizer.betas[1]: expected at least 0 and below 1"),
    ("optimizer.betas", [0.9], "optimizer.betas: expected 2 values, found 1"),
    ("optimizer.momentum", 1, "optimizer.momentum: expected at least 0 and below 1, found 1.0"),
    ("model.num_classes", 0, "model.num_classes: expected at least 1, found 0"),
    ("model.image_size", -8, "model.image_size: expected at least 1 and at most 16384, found -8"),
    ("model.name", "a\0b", "model.name: expected text, found a NUL character in it"),
    ("model.name", 3, "model.name: expected str, found int 3"),
    ("robust_validation.images", -1, "robust_validation.images: expected at least 0, found -1"),
    ("robust_validation.steps", 0, "robust_validation.steps: expected at least 1, found 0"),
    ("robust_validation.step_size", -0.1, "robust_validation.step_size: expected above 0"),
    ("transforms.train.flip", {"p": 1.5}, "transforms.train.flip.p: expected at least 0 and at"),
    ("transforms.train.resize", {"size": 0}, "transforms.train.resize.size: expected at least 1"),
    ("transforms.train.quarter_turn", {"half": -1}, "quarter_turn.half: expected at least 0"),
    ("schedule", {"name": "step", "every": 0}, "schedule.every: expected at least 1, found 0"),
    ("schedule", {"name": "cosine", "final": 2}, "schedule.final: expected at least 0 and at"),
    ("schedule", {"name": ["a"]}, "schedule: unknown schedule '['a']'; valid names are"),
    ("schedule", "cosin", "schedule: unknown schedule 'cosin'; did you mean 'cosine'?"),
    ("schedule", 7, "schedule: expected a name or a mapping, found int 7"),
    ("objectives", ["classification"], "objectives: expected a mapping of names, found list"),
]


@pytest.mark.parametrize(("key", "value", "words"), SETTINGS, ids=lambda v: str(v)[:30])
def test_a_setting_that_does_not_fit_is_one_line(tmp_path, key, value, words) -> None:
    *parents, leaf = key.split(".")
    over = {leaf: value}
    for parent in reversed(parents):
        over = {parent: over}
    values = merge(tiny_recipe(tmp_path), over)
    with pytest.raises(VitreousError) as told:
        build(Recipe, values)
    assert words in one_line(told)


def bomb(levels: int) -> str:
    """YAML of a few lines whose aliases unfold to ten to the power of `levels` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


FILES = [
    ("training: {epochs: 1, epochs: 2}", "the key 'epochs' is given twice (line 1)"),
    ("model: 1\ntraining: 2\nmodel: 3", "the key 'model' is given twice (line 3)"),
    (bomb(9), "unfolds to more than 100,000 values"),
    ("a: &a [*a]", "nested deeper than 50 levels"),
    ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
    ("{a: " * 60 + "1" + "}" * 60, "nested deeper than 50 levels"),
    ("[" * 5000, "nested deeper than 50 levels"),
    ("a: [1, 2", "is not valid YAML"),
    ("a: b: c", "is not valid YAML"),
    ("a: 'open", "is not valid YAML"),
    ("\tkey: 1", "is not valid YAML"),
    ("a: \x01", "is not valid YAML"),
    ("a: 2024-99-99", "is not valid YAML"),
    ("a: !!python/object/apply:os.system [ls]", "is not valid YAML"),
    ("{[1]: 2}", "is not valid YAML"),
    ("a: 1\n---\nb: 2", "is not valid YAML"),
    ("- 1", "expected a mapping, found list [1]"),
    ("", "expected a mapping, found NoneType None"),
    (b"a: \xff", "is not UTF-8"),
    (b"\xff\xfea\x00:\x00", "is UTF-16; save it as UTF-8"),
    ("a: " + "x" * 4_000_001, "expected at most 4,000,000 characters"),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=lambda v: str(v)[:20])
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, content, words) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VitreousError) as told:
        read_yaml(path)
    assert words in one_line(told) and str(path) in str(told.value)


def test_a_folder_and_a_missing_file_are_no_recipes(tmp_path) -> None:
    for path, words in ((tmp_path, "cannot be read"), (tmp_path / "none.yaml", "no file at")):
        with pytest.raises(VitreousError, match=words):
            read_yaml(path)


def test_aliases_and_merged_keys_of_ordinary_files_are_read(tmp_path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n")
    assert read_yaml(path) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": [{"x": 1, "y": 2}] * 2,
    }


OVERRIDES = [
    (["--training", "3", "--training.epochs", "2"], "--training is given the value 3"),
    (["--training.epochs", "2", "--training", "3"], "--training is given the value 3"),
    (["--training.epochs"], "--training.epochs has no value; write --training.epochs VALUE"),
    (["--training.epochs", "--quiet", "1"], "--training.epochs has no value"),
    (["training.epochs", "2"], "expected --key.sub value, found 'training.epochs'"),
    (["--=2"], "expected --key.sub value, found '--=2'"),
    (["--data.images", "[1, 2"], "--data.images [1, 2 is not valid YAML"),
    (["--data.images", "a: b: c"], "--data.images a: b: c is not valid YAML"),
    (["--data.images=" + "[" * 5000], "nested deeper than 50 levels"),
    (["--data", "{a: 1, a: 2}"], "the key 'a' is given twice"),
    (["--" + "a." * 3000 + "a", "1"], "expected at most 16 names in a key"),
]


@pytest.mark.parametrize(("arguments", "words"), OVERRIDES, ids=lambda v: str(v)[:30])
def test_an_override_that_is_none_is_one_line(arguments, words) -> None:
    with pytest.raises(VitreousError) as told:
        parse_overrides(arguments)
    assert words in one_line(told)


def test_all_keys_that_a_recipe_lacks_are_named_at_once_with_their_options() -> None:
    with pytest.raises(VitreousError, match=r"missing keys 'data.images', 'data.masks': ") as error:
        load_recipe("robust_vit/vit_base")
    assert "; give --data.images VALUE --data.masks VALUE, or" in str(error.value)
    with pytest.raises(VitreousError, match=r"missing key 'data.masks': ") as error:
        load_recipe("robust_vit/vit_base", {"data": {"images": "photos"}})
    assert "; give --data.masks VALUE, or" in str(error.value)


def test_overrides_become_nested_values() -> None:
    arguments = ["--a.b-c", "2/255", "--a.d=[1, x]", "--e", "null", "--a.f={g: 1}", "--a.f.h", "-2"]
    assert parse_overrides(arguments) == {
        "a": {"b_c": "2/255", "d": [1, "x"], "f": {"g": 1, "h": -2}},
        "e": None,
    }


def test_the_nearest_names_are_few() -> None:
    names = [f"vit_{size}_patch{patch}" for size in "abcdefghij" for patch in (8, 14, 16)]
    assert nearest("vit_c_patch16x", names) == "did you mean 'vit_c_patch16'?"
    assert nearest("photo.jpg", names).count(",") == 2
    assert nearest("x", ["one", "two"]) == "valid names are: one, two"
