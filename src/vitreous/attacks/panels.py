"""Strips of targeted perturbations in a run folder, which the card shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vitreous.attacks.figures import Frame
from vitreous.data.images import save_image
from vitreous.io import read_json, write_json

AMPLIFIED = 4
FOLDER, LISTING = "targeted", "targeted.json"


def add_panel(
    folder: str | os.PathLike[str], name: str, title: str, frames: Sequence[Frame]
) -> Path:
    """Put an image that was pushed towards a class, radius by radius, on the run's card.

    Files are `targeted/{name}_{place}.png` and an entry of `targeted/targeted.json`; a strip that
    was written under the same name before is replaced. The last image is the difference at
    the largest radius, four times as strong, on grey.

    Args:
        folder: The run folder.
        name: Of the strip's files.
        title: What the card says, for example `dog → teapot`.
        frames: Of `vitreous.attacks.figures.attack_frames`, the clean image first.

    Returns:
        The listing.
    """
    clean, last = frames[0], frames[-1]
    shown = {f"as it is: {_answer(clean)}": clean.perturbed}
    for frame in frames[1:]:
        shown[f"{frame.radius}: {_answer(frame)}"] = frame.perturbed
    shown[f"difference × {AMPLIFIED}"] = (0.5 + AMPLIFIED * last.perturbation).clamp(0, 1)
    root = Path(folder) / FOLDER
    files = {}
    for place, (caption, image) in enumerate(shown.items()):
        files[caption] = f"{name}_{place}.png"
        save_image(image, root / files[caption])
    entry = {"name": name, "title": title, "files": files}
    found = read_json(root / LISTING) if (root / LISTING).is_file() else []
    kept = [one for one in found if one.get("name") != name]
    return write_json(root / LISTING, [*kept, entry])


def _answer(frame: Frame) -> str:
    return f"{frame.answer} {100 * frame.confidence:.0f}\N{NO-BREAK SPACE}%"
