"""Photographs with masks, and the same photographs with their backgrounds changed.

    python benchmarks/evidence/prepare.py --data tiny_imagenet_50/ --out evidence/data

Writes `train_16.csv` and `train_3.csv` (path, label, mask: 16 images of each class; 3 images of
every second class), masks from boxes, and five test sets after the backgrounds challenge (Xiao et
al. 2021), all of the same validation images: `original`; `only_object` (black around the box);
`same_class` and `random_class` (the box on the background of another image of the same class, or
of another class); `only_background` (the image's own background, its object tiled over). A
background is the largest rectangle beside the object's box, tiled over the image.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]
LEAST, MOST = 0.1, 0.7  # shares of the image that an object may take, so that there are both


def read_boxes(data: Path) -> dict[str, Box]:
    """Boxes (left, top, right, bottom), ends exclusive, of the images whose object is of a size."""
    boxes = {}
    for name, (left, top, right, bottom) in json.loads((data / "boxes.json").read_text()).items():
        box = (left, top, right + 1, bottom + 1)
        share = (box[2] - box[0]) * (box[3] - box[1]) / 64**2
        if LEAST <= share <= MOST and max(beside(box)) > 0:
            boxes[name] = box
    return boxes


def beside(box: Box, size: int = 64) -> tuple[int, int, int, int]:
    """Areas of the rectangles left of a box, above, right of and below it; none under 8 px."""
    left, top, right, bottom = box
    widths = (left, top, size - right, size - bottom)
    return tuple(w * size if w >= 8 else 0 for w in widths)  # ty: ignore[invalid-explicit-return]


def background(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The largest rectangle beside the box, tiled over the whole image."""
    left, top, right, bottom = box
    parts = (pixels[:, :left], pixels[:top], pixels[:, right:], pixels[bottom:])
    part = parts[int(np.argmax(beside(box)))]
    times = [-(-64 // n) for n in part.shape[:2]]
    return np.tile(part, (*times, 1))[:64, :64]


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
                mask = out / "boxes" / Path(name).with_suffix(".png")
                mask.parent.mkdir(parents=True, exist_ok=True)
                filled = np.zeros((64, 64), np.uint8)
                left, top, right, bottom = boxes[name]
                filled[top:bottom, left:right] = 255
                Image.fromarray(filled).save(mask)
                writer.writerow([(data / name).resolve(), label, mask.resolve()])


def write_tests(data: Path, out: Path, boxes: dict[str, Box], count: int) -> None:
    """The five test sets, as class folders."""
    groups = by_class([n for n in boxes if n.startswith("val/")])
    chosen = [n for names in groups.values() for n in names]
    random = np.random.default_rng(0)
    chosen = [chosen[i] for i in sorted(random.permutation(len(chosen))[:count])]
    for name in chosen:
        label = name.split("/")[1]
        pixels, box = load(data / name), boxes[name]
        same = [n for n in groups[label] if n != name] or [name]
        other = [n for c, names in groups.items() if c != label for n in names]
        donors = {
            "same_class": same[random.integers(len(same))],
            "random_class": other[random.integers(len(other))],
        }
        images = {
            "original": pixels,
            "only_object": paste(np.zeros_like(pixels), pixels, box),
            "only_background": background(pixels, box),
        }
        for title, donor in donors.items():
            images[title] = paste(background(load(data / donor), boxes[donor]), pixels, box)
        for title, image in images.items():
            file = out / "tests" / title / label / f"{Path(name).stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)


def load(path: Path) -> np.ndarray:
    """An image of 64 px as bytes."""
    return np.asarray(Image.open(path).convert("RGB"))


def paste(ground: np.ndarray, pixels: np.ndarray, box: Box) -> np.ndarray:
    """The box of an image on a ground."""
    left, top, right, bottom = box
    image = ground.copy()
    image[top:bottom, left:right] = pixels[top:bottom, left:right]
    return image


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
