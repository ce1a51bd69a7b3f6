"""How good unsupervised masks are, on photos with polygons and on composites with exact masks.

    python benchmarks/masks_quality.py --data DATA --weights WEIGHTS

DATA holds `coco64_seg`, `tuxpaint_cutouts` and `si_score` unpacked; WEIGHTS the ViT-S/14 and
U²-Net-p. Prints mean and median IoU; `--limit 8` for a quick look.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from vitreous.data.compositing import CompositeItems, plan, write_composites
from vitreous.data.cutouts import find_cutouts
from vitreous.data.images import list_images
from vitreous.masks import Found, intersection_over_union, measure
from vitreous.masks.sources.png import BinaryFiles
from vitreous.masks.sources.saliency import Onnx
from vitreous.masks.sources.tokencut import TokenCut
from vitreous.masks.sources.yolo import Yolo

Masks = list[np.ndarray | None]


def find(source, images: Path, names: list[str]) -> Masks:
    items = {item.name: item for item in source.items(images)}
    found = []
    for start in range(0, len(names), 8):
        found += source.find([items[n] for n in names[start : start + 8]])
    return [one.mask if isinstance(one, Found) else None for one in found]


def show(name: str, scores: list[float], n: int) -> None:
    if scores:
        print(
            f"| {name} | {np.mean(scores):.3f} | {np.median(scores):.3f} | {len(scores)} of {n} |"
        )


def compare(title: str, images: Path, truth_source, sources: dict, limit: int | None) -> None:
    names = [item.name for item in truth_source.items(images)][:limit]
    truth = find(truth_source, images, names)
    names, kept = zip(*[(n, t) for n, t in zip(names, truth) if t is not None and t.any()])
    print(f"\n{title}: {len(kept)} pictures with foreground\n")
    print("| masks | mean IoU | median IoU | pictures |\n| --- | --- | --- | --- |")
    made = {name: find(source, images, list(names)) for name, source in sources.items()}
    scores = {
        name: [intersection_over_union(m, t) for m, t in zip(masks, kept)]
        for name, masks in made.items()
    }
    for name, values in scores.items():
        show(name, values, len(kept))
    first, *_, second = made
    agreement = [intersection_over_union(a, b) for a, b in zip(made[first], made[second])]
    for least in (0.3, 0.5, 0.7):
        chosen = [i for i, value in enumerate(agreement) if value >= least]
        for name in (first, second):
            label = f"{name}, agreement ≥ {least}"
            show(label, [scores[name][i] for i in chosen], len(kept))
    for name in (first, second):
        order = [measure(m).score for m in made[name]]
        print(f"rank correlation of quality and IoU, {name}: {rank(order, scores[name]):.2f}")
    print(f"rank correlation of agreement and IoU, {first}: {rank(agreement, scores[first]):.2f}")


def rank(first: list[float], second: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--parts", nargs="+", default=["coco", "composites"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common = {
        "model": "vit_small_patch14_dinov2.lvd142m",
        "checkpoint": str(arguments.weights / "dinov2_vits14_saliency_fp16.safetensors"),
        "image_size": arguments.size,
    }
    sources = {
        "TokenCut (tokens)": TokenCut(**common),
        "TokenCut (tokens), edges none": TokenCut(**common, edges="none"),
        "TokenCut (keys, as published)": TokenCut(**common, features="key"),
        "U²-Net-p": Onnx(arguments.weights / "u2netp.onnx"),
    }
    if "coco" in arguments.parts:
        truth = Yolo(arguments.data / "coco64_seg" / "labels", minimum_area=0.01)
        images = arguments.data / "coco64_seg" / "images"
        compare("COCO photos", images, truth, sources, arguments.limit)
    if "composites" in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            root = composites(arguments.data, Path(folder))
            title = "tuxpaint cut-outs on SI-Score's backgrounds"
            compare(title, root / "images", BinaryFiles(root / "masks"), sources, arguments.limit)


def composites(data: Path, folder: Path, count: int = 64) -> Path:
    """Every fifth cut-out, each once, on a background, with area, place and angle drawn."""
    cutouts, names = find_cutouts(data / "tuxpaint_cutouts")
    grounds = list_images(data / "si_score" / "background_samples")
    few = cutouts[:: max(len(cutouts) // count, 1)][:count]
    scenes = plan(few, grounds, "random", steps=2, backgrounds_per_cutout=1, size=320)[::2]
    return write_composites(CompositeItems(few, grounds, scenes, names, 320), folder, "random")


if __name__ == "__main__":
    main()
