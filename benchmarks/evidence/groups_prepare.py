"""Sets in the manner of Waterbirds, of photographs: animals on land and on water.

    python benchmarks/evidence/groups_prepare.py --objects evidence/objects --backgrounds \
        evidence/grounds --start vits14_tiny50_112/ --out evidence/groups

`objects` is what `cutouts.py` writes; `backgrounds` holds `land/` and `water/`. Each set is four of
the start's classes: `train/list.csv` (95 % of each class's images on its own kind of background),
`balanced/list.csv` (other objects, each on both kinds: what last-layer retraining takes),
`test/list.csv` (objects that the start has not seen, each on both kinds), and `start/`, the model
with the rows of its head that are these classes'. No background is in two of the three lists.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch

from vitreous.data.composites.groups import Kinds, find_kinds, plan_groups, write_groups
from vitreous.data.composites.sets import Plan
from vitreous.data.readers.composites import read_cutouts
from vitreous.io import atomic_path
from vitreous.models import load_model, save_model

# Settings are chosen on the first set and reported on the others. Classes have land and water in
# turn, in the order of their ids.
SETS = {
    "search": ("n01882714", "n02002724", "n02085620", "n02423022"),
    "report": ("n01698640", "n02106662", "n02124075", "n02486410"),
}
AGREEMENT = {"train": 0.95, "balanced": None, "test": None}
SIZE = 64


def share_out(kinds: Kinds, part: int) -> Kinds:
    """A third of the backgrounds of each kind."""
    files = {name: list(paths)[part::3] for name, paths in kinds.files.items()}
    return Kinds(files, kinds.homes)


def write_set(title: str, arguments: argparse.Namespace) -> None:
    """Write the three lists of a set, and its model to start from."""
    classes = sorted(SETS[title])
    for part, (use, agreement) in enumerate(AGREEMENT.items()):
        objects = arguments.out / title / "objects" / use
        for kind in ("images", "masks"):
            for name in classes:
                source = arguments.objects / use / kind / name
                shutil.copytree(source, objects / kind / name, dirs_exist_ok=True)
        found = read_cutouts(objects / "images", objects / "masks")
        kinds = share_out(find_kinds(arguments.backgrounds, classes), part)
        scenes = plan_groups(found.cutouts, kinds, agreement=agreement, seed=part)
        items = Plan(found.cutouts, kinds.backgrounds, scenes, classes, SIZE)
        print(title, use, len(items), write_groups(items, kinds, arguments.out / title / use))
    whole = load_model(str(arguments.start))
    rows = [whole.class_names.index(name) for name in classes]
    few = load_model(
        str(arguments.start), num_classes=len(classes), class_names=classes, pretrained=True
    )
    with torch.no_grad():
        few.net.head.weight.copy_(whole.net.head.weight[rows])
        few.net.head.bias.copy_(whole.net.head.bias[rows])
    save_model(few, arguments.out / title / "start")
    assert np.isfinite(few.net.head.weight.detach().numpy()).all()


def main() -> None:
    """Write the sets that are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    arguments = parser.parse_args()
    for title in arguments.sets:
        done = arguments.out / title / "done"
        if not done.is_file():
            write_set(title, arguments)
            with atomic_path(done) as temporary:
                temporary.write_text("\n")


if __name__ == "__main__":
    main()
