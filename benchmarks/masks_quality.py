"""How good unsupervised masks are, on photos with polygons and on composites with exact masks;
and how good those of SAM are from boxes.

    python benchmarks/masks_quality.py --data DATA --weights WEIGHTS --part coco
    python benchmarks/masks_quality.py --data DATA --part sam --encoder ENCODER --decoder DECODER

DATA holds `coco64_seg`, `tuxpaint_cutouts` and `si_score` unpacked; WEIGHTS the ViT-S/14 and
U²-Net-p. Prints mean and median IoU. Scores are kept in a file; run again, it goes on with the
next pictures, so `--limit 16` four times is the whole set in small portions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitreous.data.composites.cutouts import find_cutouts
from vitreous.data.composites.sets import Plan, plan, write_composites
from vitreous.data.images import list_images
from vitreous.io import read_json, write_json
from vitreous.masks import Found, MaskItem, intersection_over_union, measure
from vitreous.masks.methods.boxes import Boxes
from vitreous.masks.methods.png import BinaryFiles
from vitreous.masks.methods.saliency import Onnx
from vitreous.masks.methods.sam import Sam
from vitreous.masks.methods.tokencut import TokenCut
from vitreous.masks.methods.yolo import Yolo
from vitreous.masks.polygons import fill

Masks = list[np.ndarray | None]


def find(source, images: Path, names: list[str]) -> Masks:
    items = {item.name: item for item in source.items(images)}
    found = []
    for start in range(0, len(names), 8):
        found += source.find([items[n] for n in names[start : start + 8]])
    return [one.mask if isinstance(one, Found) else None for one in found]


def score(images: Path, truth_source, sources: dict, names: list[str]) -> dict[str, dict]:
    """IoU of each method with the truth, quality scores, and agreement of the first and last."""
    truth = find(truth_source, images, names)
    shown = [(n, t) for n, t in zip(names, truth) if t is not None and t.any()]
    table: dict[str, dict] = {name: {} for name in names}
    made = {k: find(source, images, [n for n, _ in shown]) for k, source in sources.items()}
    first, *_, last = made.values()
    for row, (name, mask) in enumerate(shown):
        table[name] = {
            key: intersection_over_union(masks[row], mask) for key, masks in made.items()
        }
        table[name]["agreement"] = intersection_over_union(first[row], last[row])
        table[name]["quality"] = {key: measure(masks[row]).score for key, masks in made.items()}
    return table


def show(title: str, table: dict[str, dict], methods: list[str]) -> None:
    rows = [row for row in table.values() if row]
    print(f"\n{title}: {len(table)} pictures, {len(rows)} with foreground\n")
    print("| masks | mean IoU | median IoU | pictures |\n| --- | --- | --- | --- |")
    first, *_, last = methods
    for name in methods:
        line(name, [row[name] for row in rows], len(rows))
    for least in (0.3, 0.5, 0.7):
        kept = [row for row in rows if row["agreement"] >= least]
        for name in (first, last):
            line(f"{name}, agreement ≥ {least}", [row[name] for row in kept], len(rows))
    for name in (first, last):
        for by in ("agreement", "quality"):
            order = [row[by][name] if by == "quality" else row[by] for row in rows]
            found = rank(order, [row[name] for row in rows])
            print(f"rank correlation of {by} and IoU, {name}: {found:.2f}")


def line(name: str, scores: list[float], n: int) -> None:
    if scores:
        print(
            f"| {name} | {np.mean(scores):.3f} | {np.median(scores):.3f} | {len(scores)} of {n} |"
        )


def rank(first: list[float], second: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--encoder", type=Path, default=Path("encoder.onnx"))
    parser.add_argument("--decoder", type=Path, default=Path("decoder.onnx"))
    parser.add_argument("--part", choices=("coco", "composites", "sam"), default="coco")
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--scores", type=Path, default=Path("scores.json"))
    arguments = parser.parse_args()
    if arguments.part == "sam":
        sam(arguments.data / "coco64_seg", arguments.encoder, arguments.decoder, arguments.limit)
        return
    torch.set_num_threads(1)
    common = {
        "model": "vit_small_patch14_dinov2.lvd142m",
        "checkpoint": str(arguments.weights / "dinov2_vits14_saliency_fp16.safetensors"),
        "image_size": arguments.size,
    }
    sources = {
        "TokenCut (tokens)": TokenCut(**common),
        "TokenCut (keys, as published)": TokenCut(**common, features="key"),
        "U²-Net-p": Onnx(arguments.weights / "u2netp.onnx"),
    }
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part == "coco":
            title, images = "COCO photos", arguments.data / "coco64_seg" / "images"
            truth = Yolo(arguments.data / "coco64_seg" / "labels", minimum_area=0.01)
        else:
            title = "tuxpaint cut-outs on SI-Score's backgrounds"
            root = composites(arguments.data, Path(folder))
            images, truth = root / "images", BinaryFiles(root / "masks")
        stored = read_json(arguments.scores) if arguments.scores.is_file() else {}
        table = stored.setdefault(f"{arguments.part} {arguments.size}", {})
        names = [item.name for item in truth.items(images) if item.name not in table]
        table.update(score(images, truth, sources, names[: arguments.limit]))
        write_json(arguments.scores, stored)
    show(title, table, list(sources))


def sam(data: Path, encoder: Path, decoder: Path, limit: int) -> None:
    """SAM with the boxes of the polygons that count, against the union of these polygons."""
    truth = Yolo(data / "labels", minimum_area=0.01)
    items = truth.items(data / "images")[:limit]
    shown = [
        (item, found.mask)
        for item, found in zip(items, truth.find(items))
        if isinstance(found, Found) and found.mask.any()
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = {f"{item.name}.jpg": polygon_boxes(truth, item) for item, _ in shown}
        file = write_json(Path(folder) / "boxes.json", table)
        sources = {"box masks": Boxes(file), "SAM, boxes": Sam(encoder, decoder, boxes=file)}
        print("| masks | mean IoU | median IoU | pictures |\n| --- | --- | --- | --- |")
        for name, source in sources.items():
            asked = {item.name: item for item in source.items(data / "images")}
            start = time.perf_counter()
            found = source.find([asked[item.name] for item, _ in shown])
            seconds = (time.perf_counter() - start) / len(shown)
            scores = [
                intersection_over_union(one.mask, mask)
                for one, (_, mask) in zip(found, shown)
                if isinstance(one, Found)
            ]
            line(name, scores, len(shown))
            print(f"{seconds:.2f} s a picture", file=sys.stderr)


def polygon_boxes(truth: Yolo, item: MaskItem) -> list[list[float]]:
    """Boxes of the polygons of a label file that each cover at least the least area."""
    with Image.open(item.image or item.source) as image:
        size = image.size
    boxes = []
    for text in item.source.read_text(encoding="utf-8").splitlines():
        points = truth.points(text, size)
        if points and fill([points], size)[0].mean() >= truth.minimum_area:
            xs, ys = points[::2], points[1::2]
            boxes.append([min(xs), min(ys), max(xs) - 1, max(ys) - 1])
    return boxes


def composites(data: Path, folder: Path, count: int = 64) -> Path:
    """Every fifth cut-out, each once, on a background, with area, place and angle drawn."""
    cutouts, names = find_cutouts(data / "tuxpaint_cutouts")
    grounds = list_images(data / "si_score" / "background_samples")
    few = cutouts[:: max(len(cutouts) // count, 1)][:count]
    scenes = plan(few, grounds, "random", steps=2, backgrounds_per_cutout=1, size=320)[::2]
    return write_composites(Plan(few, grounds, scenes, names, 320), folder, "random")


if __name__ == "__main__":
    main()
