"""The `vitreous` command: a table of commands, each a small dataclass in `vitreous.commands`."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from typing import Any

from vitreous.config import warn_renamed
from vitreous.errors import VitreousError, nearest

COMMANDS = {
    "explain": "show what a model looks at in a picture",
    "mask": "make foreground masks, from pictures or from other formats",
    "train": "train or finetune a model from a recipe",
    "sweep": "search settings of a recipe",
    "evaluate": "measure accuracy and explanations on test sets",
    "attack": "measure robustness under attack",
    "brain": "score a model against the primate visual system",
    "report": "write the card of one model or of several",
    "app": "open a local page to compare what models look at",
    "demo": "see all of it, small, offline, in minutes",
    "export": "write a model for timm, Hugging Face or ONNX",
}


def overview() -> str:
    """Text of `vitreous --help`."""
    lines = [f"  {name:<10} {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vitreous COMMAND [OPTIONS]",
            "",
            "Vision Transformers that look at the right thing.",
            "",
            *lines,
            "",
            "`vitreous COMMAND --help` shows options and an example; start with `vitreous demo`.",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (1 for a user's mistake, told in one line)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"vitreous {version('vitreous')}")
        return 0
    warnings.simplefilter("once", FutureWarning)
    warnings.formatwarning = _one_line  # ty: ignore[invalid-assignment]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise VitreousError(f"unknown command '{name}'; {nearest(name, COMMANDS)}")
        return int(run(name, rest) or 0)
    except VitreousError as error:
        print(f"vitreous: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vitreous: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning without the place in the code that gave it."""
    return f"warning: {message}\n"


RENAMED_OPTIONS = {
    "--picture": "--image",
    "--strips": "--panels",
    "--step": "--step-size",
    "--pca-pictures": "--pca-images",
}


def current_options(arguments: list[str]) -> list[str]:
    """Give options of older versions their present names, with a warning that tells them."""
    present = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option in RENAMED_OPTIONS:
            warn_renamed(option, RENAMED_OPTIONS[option])
            argument = RENAMED_OPTIONS[option] + equals + value
        present.append(argument)
    return present


def run(name: str, arguments: list[str]) -> Any:
    """Parse a command's arguments and run it."""
    import tyro

    arguments = current_options(arguments)
    module = importlib.import_module(f"vitreous.commands.{name}")
    command = module.Command
    program = f"vitreous {name}"
    if getattr(module, "TAKES_OVERRIDES", False):
        parsed, overrides = tyro.cli(
            command,
            prog=program,
            args=arguments,
            description=module.__doc__,
            return_unknown_args=True,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        return parsed.run(overrides)
    parsed = tyro.cli(
        command,
        prog=program,
        args=arguments,
        description=module.__doc__,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return parsed.run()


if __name__ == "__main__":
    sys.exit(main())
