"""`--help` and the list of recipes answer at once: they import no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vitreous.commands.mask import METHODS
from vitreous.masks import MASK_METHODS

# Of what `vitreous evaluate`, `attack` and `brain` offer, a part is known to their rooms only.
QUICK = ("explain", "mask", "train", "sweep", "report", "app", "demo", "export")


def without_torch(arguments: list[str]) -> str:
    """What the command line prints, in a process that must not import torch."""
    code = (
        "import sys\n"
        "from vitreous.cli import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    status = end.code or 0\n"
        "heavy = {'torch', 'timm', 'accelerate', 'matplotlib', 'sklearn'} & {*sys.modules}\n"
        "sys.exit(status or (f'imports {heavy}' if heavy else 0))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("name", QUICK)
def test_help_imports_no_torch(name: str) -> None:
    assert f"vitreous {name}" in without_torch([name, "--help"])


def test_the_overview_and_the_list_of_recipes_import_no_torch() -> None:
    assert "usage: vitreous COMMAND" in without_torch(["--help"])
    assert "robust_vit/vit_base" in without_torch(["train"]).splitlines()


def test_the_methods_of_mask_are_those_that_are_registered() -> None:
    assert sorted(METHODS) == list(MASK_METHODS)
