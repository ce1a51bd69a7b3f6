"""Photographs with masks, and the same photographs with their backgrounds changed.

    python benchmarks/evidence/prepare.py --data tiny_imagenet_50/ --out evidence/data

Writes `train_16.csv` and `train_3.csv` (path, label, mask: 16 images of each class; 3 images of
every second class), masks from boxes, and the five versions of the backgrounds challenge (Xiao et
al. 2021; `vitreous.data.composites.backgrounds_challenge`), all of the same validation images, with
boxes as masks: `original`, `only_object`, `same_class`, `random_class` and `only_background`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.composites.backgrounds_challenge import Version, plan_backgrounds, strips
from vitreous.data.composites.compositing import Box
from vitreous.data.readers import read_dataset

TITLES: dict[Version, str] = {
    "original": "original",
    "only_fg": "only_object",
    "only_bg_t": "only_background",
    "mixed_same": "same_class",
    "mixed_rand": "random_class",
}
SIZE = 64
LEAST, MOST = 0.1, 0.7  # shares of the image that an object may take, so that there are both


def read_boxes(data: Path) -> dict[str, Box]:
    """Boxes (left, top, right, bottom), ends exclusive, of the images whose object is of a size."""
    boxes = {}
    for name, (left, top, right, bottom) in json.loads((data / "boxes.json").read_text()).items():
        box = (left, top, right + 1, bottom + 1)
        share = (box[2] - box[0]) * (box[3] - box[1]) / SIZE**2
        if LEAST <= share <= MOST and max(strips(box, SIZE, SIZE)) > 0:
            boxes[name] = box
    return boxes


def by_class(names: list[str]) -> dict[str, list[str]]:
    """Names of each class, sorted."""
    groups = defaultdict(list)
    for name in sorted(names):
        groups[name.split("/")[1]].append(name)
    return dict(sorted(groups.items()))


def write_training(data: Path, out: Path, boxes: dict[str, Box]) -> None:
    """Lists of few images of each class, with masks."""
    groups = by_class([n for n in boxes if n.startswith("train/")])
    order = {
        c: [names[i] for i in np.random.default_rng([0, k]).permutation(len(names))]
        for k, (c, names) in enumerate(groups.items())
    }
    lists = {
        "train_16": [(c, n) for c in groups for n in order[c][:16]],
        "train_3": [(c, n) for c in list(groups)[::2] for n in order[c][:3]],
        "held_out": [(c, n) for c in groups for n in order[c][16:20]],
    }
    for title, rows in lists.items():
        with (out / f"{title}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "mask"])
            for label, name in rows:
                mask = write_mask(out, name, boxes[name])
                writer.writerow([(data / name).resolve(), label, mask.resolve()])


def write_tests(data: Path, out: Path, boxes: dict[str, Box], count: int) -> None:
    """The five test sets, as class folders, with the photographs' own names."""
    for name in boxes:
        if name.startswith("val/"):
            write_mask(out, name, boxes[name])
    photos = read_dataset(data / "val", masks=out / "boxes" / "val")
    items = plan_backgrounds(photos, area=(LEAST, MOST), limit=count)
    for row, exchange in enumerate(items.exchanges):
        for version, title in TITLES.items():
            file = out / "tests" / title / Path(photos.name(exchange.image)).with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            items.draw(row, version).save(file)


def write_mask(out: Path, name: str, box: Box) -> Path:
    """The mask of a box, 64 px; returns where it is."""
    mask = out / "boxes" / Path(name).with_suffix(".png")
    mask.parent.mkdir(parents=True, exist_ok=True)
    filled = np.zeros((SIZE, SIZE), np.uint8)
    left, top, right, bottom = box
    filled[top:bottom, left:right] = 255
    Image.fromarray(filled).save(mask)
    return mask


def main() -> None:
    """Write lists, masks and test sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1200, help="validation images in each set")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    boxes = read_boxes(arguments.data)
    write_training(arguments.data, arguments.out, boxes)
    write_tests(arguments.data, arguments.out, boxes, arguments.count)
    total = sum(1 for _ in (arguments.out / "tests" / "original").rglob("*.png"))
    print(f"lists, masks and {total} images in each test set: {arguments.out}")


if __name__ == "__main__":
    main()
