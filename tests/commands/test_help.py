"""`--help` and the list of recipes answer at once: they import no torch, and little else."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import get_args

import pytest

from vitreous.attacks import ATTACKS
from vitreous.attribution import scores
from vitreous.cli import COMMANDS
from vitreous.commands import attack, evaluate
from vitreous.commands.mask import METHODS
from vitreous.data import mask_files
from vitreous.data.composites import compositing
from vitreous.masks import MASK_METHODS

BRAIN = ("score", "layers", "similarity", "behaviour", "export")


def without_torch(arguments: list[str], but: str = "") -> str:
    """What the command line prints, in a process that imports no torch and nothing like it."""
    code = (
        "import sys\n"
        "from vitreous.cli import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    status = end.code or 0\n"
        "slow = 'torch timm accelerate matplotlib sklearn numpy scipy pandas PIL gradio jinja2 '\n"
        "slow += 'yaml typeguard asyncio'\n"
        f"heavy = ({{*slow.split()}} & {{*sys.modules}}) - {{*'{but}'.split()}}\n"
        "sys.exit(status or (f'imports {heavy}' if heavy else 0))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", [*COMMANDS, *(f"brain {name}" for name in BRAIN)])
def test_help_imports_no_torch(name: str) -> None:
    # tyro checks a default of several types, which that of --window may be, by typeguard.
    but = "typeguard asyncio" if name in ("brain score", "brain layers") else ""
    assert f"vitreous {name}" in without_torch([*name.split(), "--help"], but)


def test_what_may_be_left_out_is_said_without_none() -> None:
    told = without_torch(["evaluate", "--help"])
    assert "--checkpoint PATH" in told and "(optional)" in told
    assert "None}" not in told and "default: None" not in told and "default: )" not in told
    assert "(at least 0; default: 0)" in " ".join(told.split())


@pytest.mark.parametrize("name", ["explain", "train"])
def test_help_fits_the_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """tyro leaves the lines of a paragraph to the terminal, which cuts words in two."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = without_torch([name, "--help"]).splitlines()
    start, end = lines.index(""), next(i for i, line in enumerate(lines) if line == "Example:")
    text = lines[start + 1 : end]
    assert len(text) > 4 and max(map(len, text)) <= 80
    assert all(len(line) > 50 for line, below in itertools.pairwise(text) if line and below)


@pytest.mark.parametrize("name", ["explain", "attack"])
def test_an_option_is_told_in_whole_lines(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line ends where the next word has no room, not where one of the docstring ends too."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = without_torch([name, "--help"]).splitlines()
    column = next(line.index("show this help") for line in lines if "show this help" in line)
    cut = []
    for line, below in itertools.pairwise(lines):
        texts = [one[column:].rstrip("│ ") for one in (line, below)]
        if all(texts) and line[column - 2 : column] == "  " and not below[:column].strip("│ "):
            cut.append((texts[0], texts[1].split()[0]))
    assert len(cut) > 15
    assert [text for text, word in cut if column + len(f"{text} {word}") <= 78] == []


def test_the_overview_and_the_list_of_recipes_import_no_torch() -> None:
    assert "usage: vitreous COMMAND" in without_torch(["--help"])
    assert "robust_vit/vit_base" in without_torch(["train"]).splitlines()


def test_the_methods_of_mask_are_those_that_are_registered() -> None:
    assert sorted(METHODS) == list(MASK_METHODS)


def test_what_evaluate_and_attack_offer_is_what_their_rooms_have() -> None:
    assert sorted(get_args(attack.Name)) == list(ATTACKS)
    assert evaluate.Factor == compositing.Factor
    assert evaluate.MaskFormat == mask_files.MaskFormat
    assert evaluate.TOLERANCE == scores.TOLERANCE


def test_help_of_mask_tells_how_to_see_the_settings_of_a_method() -> None:
    assert "--method NAME --help" in " ".join(without_torch(["mask", "--help"]).split())
