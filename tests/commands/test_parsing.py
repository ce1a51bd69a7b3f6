"""The command line: one parser, ranges in `--help`, each mistake one line and status 1."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
import tyro

from helpers import tiny_recipe, write_masked_set
from vitreous.cli import duration, main
from vitreous.commands.options import BatchOption, BatchSize, RecipeOptions
from vitreous.commands.parsing import option_value, options_of, parse, split_options
from vitreous.errors import VitreousError
from vitreous.ranges import above
from vitreous.recipes import list_recipes


@dataclasses.dataclass(kw_only=True)
class Inner:
    """Settings of a part."""

    rate: Annotated[float, above(0, at_most=1)] = 0.5
    """How much."""


@dataclasses.dataclass(kw_only=True)
class Command(BatchOption):
    """A command."""

    name: Annotated[str, tyro.conf.Positional]
    batch_size: BatchSize = 8
    inner: Inner = dataclasses.field(default_factory=Inner)
    flag: bool = True


@dataclasses.dataclass(kw_only=True)
class Recipe(RecipeOptions):
    """A command with a recipe."""

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    out: str = ""
    show: bool = False


def test_ranges_are_in_the_help_of_shared_and_of_nested_options(capsys) -> None:
    with pytest.raises(SystemExit):
        parse(Command, ["--help"], "x", None)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (
        "Images in one pass through the model. (at least 1 and at most 65536; default: 8)" in shown
    )
    assert "How much. (above 0 and at most 1; default: 0.5)" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["a", "--batch-size", "0"],
            "--batch-size: expected at least 1 and at most 65536, found 0",
        ),
        (["a", "--inner.rate", "2"], "--inner.rate: expected above 0 and at most 1, found 2.0"),
        (["a", "--inner.rate", "nan"], "--inner.rate: expected above 0 and at most 1, found nan"),
        (["a", "--batch-size", "x"], "invalid literal for int() with base 10: 'x'"),
        (["a", "--batch-size"], "'--batch-size'"),
        (["a", "--batchsize", "3"], "unknown option '--batchsize'; did you mean 'batch-size'?"),
        (["a", "--inner.rat", "3"], "unknown option '--inner.rat'; did you mean 'inner.rate'?"),
        (["a", "b"], "expected no more arguments, found 'b'"),
        ([], "Missing from x: STR"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, words) -> None:
    with pytest.raises(VitreousError) as told:
        parse(Command, arguments, "x", None)
    assert words in str(told.value) and "\n" not in str(told.value)


def test_settings_of_a_recipe_stand_anywhere_among_a_commands_own() -> None:
    wanted = ("demo", "o", True, {"a": {"b": 1}, "c": [2], "d": -3})
    settings = (["--a.b", "1"], ["--c=[2]"], ["--d", "-3"])
    own = (["demo"], ["--out", "o"], ["--show"])
    for order in ((*own, *settings), (*settings, *own), (*settings[:1], *own, *settings[1:])):
        command = parse(Recipe, [word for part in order for word in part], "x", None)
        assert (command.recipe, command.out, command.show, command.overrides) == wanted


def test_parts_of_a_command_line() -> None:
    assert split_options(Recipe, ["--a", "--b", "1", "--out=3", "r"]) == (
        ["--out=3", "r"],
        ["--a", "--b", "1"],
    )
    assert set(options_of(Command)) == {"--name", "--batch-size", "--inner.rate", "--no-flag"}
    assert option_value(["--a=1", "--b", "2"], "--b") == "2"
    assert option_value(["--a=1", "--b"], "--a") == "1" and option_value([], "--a", "x") == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "demo/guidd"], "unknown recipe 'demo/guidd'"),
        (["train", "none.yaml"], "no recipe at"),
        (["train", "RECIPE", "--training.epochs", "0"], "training.epochs: expected at least 1"),
        (["train", "RECIPE", "--training", "3", "--training.epochs", "2"], "give one of the two"),
        (["train", "RECIPE", "--shw"], "--shw has no value; write --shw VALUE"),
        (["explain", "--model", "x"], "give images, or folders of them"),
        (["explain", "IMAGE", "--model", "x", "--method", "rolout"], "did you mean 'rollout'?"),
        (["explain", "IMAGE", "--model", "x", "--device", "gpu"], "the device 'gpu' cannot be"),
        (["explain", "IMAGE", "--model", "runs/nope"], "no model at runs/nope"),
        (["explain", "IMAGE", "--model", "RECIPE"], "is no model"),
        (["explain", "IMAGE", "--model", "vit_bas_patch16_224"], "did you mean 'vit_base_patch1"),
        (
            ["export", "x", "--format", "onnx-relevance", "--method", "no"],
            "unknown relevance method",
        ),
        (["export", "x", "--tolerance", "inf"], "--tolerance: expected above 0, found inf"),
        (["app", "x", "--port", "70000"], "--port: expected at least 1 and at most 65535"),
        (["demo", "--seed", "-1"], "--seed: expected at least 0 and at most 4294967295, found -1"),
        (["mask", "x", "--sheet", "-1"], "--sheet: expected at least 0, found -1"),
        (["mask", "x", "--maximum-area", "2"], "--maximum-area: expected at least 0 and at most 1"),
        (["sweep", "RECIPE", "--trials", "0", "--search", "a=int:1:2"], "--trials: expected at"),
        (["report"], "give run folders or results.json files"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_any_work(tmp_path, capsys, arguments, words) -> None:
    import yaml

    write_masked_set(tmp_path / "set", per_class=1)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "set")))
    out = [] if arguments[0] in ("app", "report") else ["--out", str(tmp_path / "out")]
    given = {"RECIPE": str(recipe), "IMAGE": str(next(tmp_path.rglob("*.png")))}
    assert main([*(given.get(word, word) for word in arguments), *out]) == 1
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and len(told) < 400
    assert not (tmp_path / "out").exists()


def test_a_command_says_how_long_it_took_beside_what_it_prints(tmp_path, capsys) -> None:
    import yaml

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(tmp_path / "set")))
    assert main(["train", str(recipe), "--show"]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["training"]["epochs"] and "done in " in printed.err
    assert main(["train", str(recipe), "--settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "--optimizer.betas [0.9, 0.999]  (list of float, at least 0 and below 1)" in lines


def test_durations_are_words() -> None:
    assert [duration(s) for s in (0.04, 59.9, 247, 7500)] == [
        *("0.0 s", "59.9 s"),
        *("4 min 7 s", "2 h 5 min"),
    ]


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_listed_without_its_images(name: str, capsys) -> None:
    assert main(["train", name, "--settings"]) == 0
    assert "--optimizer.lr" in capsys.readouterr().out
