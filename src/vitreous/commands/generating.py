"""What `vitreous evaluate --generate…` does: make a shifted set of photographs' objects."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.data.composites.backgrounds_challenge import (
    KIND,
    VERSIONS,
    plan_backgrounds,
    write_backgrounds,
)
from vitreous.data.composites.groups import find_kinds, plan_groups, write_groups
from vitreous.data.composites.sets import Plan, plan, write_composites
from vitreous.data.images import list_images
from vitreous.data.readers import read_dataset
from vitreous.data.readers.composites import read_cutouts
from vitreous.errors import VitreousError
from vitreous.folders import claim_folder

if TYPE_CHECKING:
    from vitreous.commands.evaluate import Command, Generate

GIVEN = ("cutouts", "masks", "factor", "seed")
GROUNDS = (*GIVEN, "backgrounds", "backgrounds_per_cutout", "size")
ALLOWED = {
    "location": (*GROUNDS, "steps", "minimum_inside"),
    "rotation": (*GROUNDS, "steps", "minimum_inside"),
    "size": (*GROUNDS, "steps", "minimum_inside"),
    "random": (*GROUNDS, "steps", "minimum_inside"),
    "background": (*GROUNDS, "agreement", "homes"),
    KIND: GIVEN,
}


def make_set(command: Command) -> None:
    """Make a set and say where it is."""
    settings = command.generate
    _check(settings)
    usual = KIND if settings.factor == KIND else f"si-score-{settings.factor}"
    out = command.out or Path(usual)
    claim_folder(out, "composites", overwrite=command.overwrite)
    print(f"set: {write_set(settings, out)}")


def write_set(settings: Generate, out: Path) -> Path:
    """Write the set to a folder.

    Raises:
        VitreousError: If settings are missing or of another factor, or do not fit what is there.
    """
    _check(settings)
    if settings.factor == KIND:
        return _write_challenge(settings, out)
    assert settings.cutouts is not None and settings.backgrounds is not None
    found = read_cutouts(settings.cutouts, settings.masks)
    cutouts, names = found.cutouts, found.class_names
    size, several = settings.size or 500, settings.backgrounds_per_cutout or 2
    if settings.factor == "background":
        kinds = find_kinds(settings.backgrounds, names, settings.homes)
        scenes = plan_groups(
            cutouts,
            kinds,
            agreement=settings.agreement,
            per_cutout=several,
            seed=settings.seed,
        )
        return write_groups(Plan(cutouts, kinds.backgrounds, scenes, names, size), kinds, out)
    assert settings.factor != KIND
    grounds = list_images(settings.backgrounds)
    scenes = plan(
        cutouts,
        grounds,
        settings.factor,
        steps=settings.steps,
        backgrounds_per_cutout=several,
        minimum_inside=settings.minimum_inside,
        size=size,
        seed=settings.seed,
    )
    return write_composites(Plan(cutouts, grounds, scenes, names, size), out, settings.factor)


def _check(settings: Generate) -> None:
    """Refuse settings that the factor does not have, and too few of them."""
    allowed = ALLOWED[settings.factor]
    for field in dataclasses.fields(settings):
        if field.name not in allowed and getattr(settings, field.name) != field.default:
            of = ", ".join(factor for factor, names in ALLOWED.items() if field.name in names)
            raise VitreousError(
                f"--generate.{field.name.replace('_', '-')} is of --generate.factor {of}, found "
                f"--generate.factor {settings.factor}"
            )
    if settings.cutouts is None or ("backgrounds" in allowed and settings.backgrounds is None):
        needed = "both --generate.cutouts and --generate.backgrounds"
        raise VitreousError(f"give {needed if 'backgrounds' in allowed else '--generate.cutouts'}")


def _write_challenge(settings: Generate, out: Path) -> Path:
    assert settings.cutouts is not None
    photos = read_dataset(settings.cutouts, masks=settings.masks, labelled=True)
    if photos.masks is None:
        raise VitreousError(
            f"{settings.cutouts} holds no photographs with masks; give --generate.masks FOLDER, or "
            "a CSV file with a column mask"
        )
    items = plan_backgrounds(photos, seed=settings.seed)
    for passed in (*photos.left_out, *items.left_out):
        print(f"left out: {passed}")
    root = write_backgrounds(items, out)
    print(f"{len(items)} photographs in {len(VERSIONS)} versions")
    return root
