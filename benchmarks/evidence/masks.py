"""Masks of other makings than boxes for the same few images, and a test set of another making.

    python benchmarks/evidence/masks.py --data tiny_imagenet_50/ --out evidence/data \
        --encoder ENCODER --decoder DECODER --backgrounds evidence/grounds \
        --checkpoint dinov2_vits14_saliency_fp16.safetensors

Goes on from what `prepare.py` wrote: beside `train_16.csv` (masks are boxes) it writes
`train_16_sam.csv` (SAM asked with the boxes) and `train_16_tokencut.csv` (TokenCut, which sees no
box; an image whose mask is dropped has none, and is classified only). The validation images of
the test sets get SAM's masks too (`masks_val/CLASS/a.png`), and `tests/other_place` has the object,
cut out by its mask, at its own place on a photograph of an alp, a cliff, a lakeside or a seashore.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cutouts import ROW, sam_of_sheets, segment
from PIL import Image
from prepare import read_boxes

from vitreous.data.images import list_images, open_image
from vitreous.io import read_json, write_text
from vitreous.masks.methods.sam import Sam

SIDE = 64
LEAST = 0.1  # share of its box that a mask of SAM must fill, as in `cutouts.py`
Box = tuple[int, int, int, int]


def in_boxes(sam: Sam, data: Path, boxes: dict[str, Box]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask (64, 64) bool of each photograph; the box itself where SAM sees nothing."""
    named = list(boxes.items())
    for start in range(0, len(named), ROW**2):
        part = named[start : start + ROW**2]
        for (name, box), mask in zip(part, segment(sam, data, part)):
            left, top, right, bottom = box
            filled = np.zeros_like(mask)
            filled[top:bottom, left:right] = True
            yield name, mask if mask.sum() >= LEAST * filled.sum() else filled


def save(mask: np.ndarray, file: Path) -> Path:
    """Write a mask as a PNG of 0 and 255."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(file)
    return file.resolve()


def read_list(file: Path) -> list[dict[str, str]]:
    """Rows of a list of images."""
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def write_list(file: Path, rows: list[dict[str, str]]) -> None:
    """Write a list of images."""
    lines = ["path,label,mask", *(f"{r['path']},{r['label']},{r['mask']}" for r in rows)]
    write_text(file, "\n".join(lines) + "\n")


def with_sam(sam: Sam, data: Path, out: Path, title: str, boxes: dict[str, Box]) -> None:
    """The list with SAM's masks."""
    rows = read_list(out / f"{title}.csv")
    names = [str(Path(r["path"]).relative_to(data.resolve())) for r in rows]
    found = dict(in_boxes(sam, data, {n: boxes[n] for n in names}))
    for row, name in zip(rows, names):
        row["mask"] = str(save(found[name], out / "sam" / Path(name).with_suffix(".png")))
    write_list(out / f"{title}_sam.csv", rows)


def with_tokencut(out: Path, title: str, options: list[str]) -> None:
    """The list with TokenCut's masks; none where the mask was dropped."""
    rows, images, masks = read_list(out / f"{title}.csv"), out / "shown", out / "tokencut"
    for row in rows:
        copy = images / row["label"] / Path(row["path"]).name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row["path"], copy)
    command = ["mask", str(images), "--out", str(masks), "--method", "tokencut", *options]
    subprocess.run([sys.executable, "-m", "vitreous.cli", *command, "--sheet", "0"], check=True)
    for row in rows:
        file = masks / row["label"] / f"{Path(row['path']).stem}.png"
        row["mask"] = str(file.resolve()) if file.is_file() else ""
    write_list(out / f"{title}_tokencut.csv", rows)


def agreement(out: Path, titles: list[str]) -> dict[str, dict[str, float]]:
    """Of each list: images with a mask, and the mean overlap (IoU) with SAM's masks and boxes."""
    told = {}
    lists = {title: read_list(out / f"{title}.csv") for title in titles}
    box, sam = lists[titles[0]], lists[titles[1]]
    for title, rows in lists.items():
        pairs = {"box": box, "sam": sam}
        entry = {"masked": sum(bool(r["mask"]) for r in rows), "images": len(rows)}
        for name, other in pairs.items():
            both = [(mask_of(r), mask_of(o)) for r, o in zip(rows, other)]
            entry[name] = round(float(np.mean([overlap(a, b) for a, b in both])), 4)
        told[title] = entry
    return told


def mask_of(row: dict[str, str]) -> np.ndarray:
    """The mask of a row, empty where it has none."""
    if not row["mask"]:
        return np.zeros((SIDE, SIDE), bool)
    return np.asarray(Image.open(row["mask"]).convert("L")) > 127


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU; 0 where neither has foreground."""
    return float((first & second).sum() / max((first | second).sum(), 1))


def other_place(pixels: np.ndarray, mask: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The object (64, 64, 3) cut out by its mask, at its own place on a ground of that size."""
    return np.where(mask[..., None], pixels, ground)


def square(path: Path, side: int = SIDE) -> np.ndarray:
    """The middle square of a photograph, as (side, side, 3) bytes."""
    image = Image.open(path).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge))
    return np.asarray(cut.resize((side, side), Image.Resampling.BICUBIC))


def write_other_places(
    sam: Sam, data: Path, out: Path, boxes: dict[str, Box], places: list[Path]
) -> None:
    """Masks of the validation images, and the test set made with them."""
    random, grounds = np.random.default_rng(1), [square(p) for p in places]
    shown = sorted((out / "tests" / "original").rglob("*.png"))
    names = {next(data.glob(f"val/{f.parent.name}/{f.stem}.*")): f for f in shown}
    asked = {str(p.relative_to(data)): boxes[str(p.relative_to(data))] for p in names}
    for name, mask in in_boxes(sam, data, asked):
        file = f"{Path(name).parent.name}/{Path(name).stem}.png"
        save(mask, out / "masks_val" / file)
        pixels = np.asarray(open_image(data / name))
        image = other_place(pixels, mask, grounds[random.integers(len(grounds))])
        target = out / "tests" / "other_place" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target)


def main() -> None:
    """Write lists, masks and the test set; what is there is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--checkpoint", required=True, help="of TokenCut's model")
    parser.add_argument("--model", default="vit_small_patch14_dinov2.lvd142m")
    arguments = parser.parse_args()
    boxes, out = read_boxes(arguments.data), arguments.out
    sam = sam_of_sheets(arguments.encoder, arguments.decoder)
    if not (out / "other_place.done").is_file():
        places = list_images(arguments.backgrounds)
        write_other_places(sam, arguments.data, out, boxes, places)
        write_text(out / "other_place.done", f"{len(places)} places\n")
    if not (out / "train_16_sam.csv").is_file():
        with_sam(sam, arguments.data, out, "train_16", boxes)
    if not (out / "train_16_tokencut.csv").is_file():
        options = ["--model", arguments.model, "--checkpoint", arguments.checkpoint]
        with_tokencut(out, "train_16", [*options, "--image-size", "224"])
    told = agreement(out, ["train_16", "train_16_sam", "train_16_tokencut"])
    write_text(out / "masks.json", json.dumps(told, indent=1) + "\n")
    print(read_json(out / "masks.json"))


if __name__ == "__main__":
    main()
