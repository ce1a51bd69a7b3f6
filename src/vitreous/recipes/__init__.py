"""The recipes that come with the package: one YAML file each, in folders by paper."""

from __future__ import annotations

from pathlib import Path


def recipe_folder() -> Path:
    """Folder of the recipes in the package."""
    return Path(__file__).parent


def list_recipes() -> list[str]:
    """Names of the recipes in the package, for example `robust_vit/vit_base`.

    Examples:
        >>> "robust_vit/vit_base" in list_recipes()
        True
    """
    root = recipe_folder()
    names = (p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml"))
    return sorted(name for name in names if not name.rsplit("/", 1)[-1].startswith("_"))
