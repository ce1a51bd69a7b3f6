"""Write down the public names with their signatures: `python tests/golden/pin_public.py`.

Run it when a public name or signature changes on purpose, and say so in the changelog.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path

FILE = Path(__file__).with_name("public.txt")
PACKAGES = (
    "vitreous",
    *(
        f"vitreous.{room}"
        for room in (
            *("attacks", "attribution", "brain", "evaluation", "masks", "models", "report"),
            "training",
        )
    ),
)


def lines() -> list[str]:
    """One line a public name: where it is, and the names, kinds and defaults of its parameters."""
    return [
        f"{package}.{name}{signature(getattr(importlib.import_module(package), name))}"
        for package in PACKAGES
        for name in sorted(importlib.import_module(package).__all__)
    ]


def signature(value: object) -> str:
    """Parameters without their types, as one would call them; nothing for a constant."""
    if not callable(value) or (inspect.isclass(value) and issubclass(value, Exception)):
        return ""
    given = inspect.signature(value).parameters.values()
    plain = [p.replace(annotation=p.empty, default=_default(p.default)) for p in given]
    return str(inspect.Signature(plain))


class _Told(str):
    def __repr__(self) -> str:
        return str(self)


def _default(value: object) -> object:
    if value is inspect.Parameter.empty:
        return value
    if value is dataclasses.MISSING or type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return _Told("…")
    return (
        _Told(repr(value))
        if type(value) in (int, float, str, bool, tuple, type(None))
        else (_Told("…"))
    )


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
