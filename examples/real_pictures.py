"""RobustViT on real pictures: where relevance falls before and after a short training.

    uv run python examples/real_pictures.py --shared ../shared --out runs/real

Takes the pretrained ViT-S/14 at hand, gives it a head for 50 classes (a linear readout fitted on
Tiny-ImageNet), and trains it with RobustViT's objectives twice: on the 64 COCO photos with their
polygon masks (no labels: the model's own prediction is explained and kept), and on tuxpaint
cut-outs put on SI-Score's backgrounds (exact masks). Prints the share of relevance on the
foreground of pictures held out. Each part that is done already is not done again.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw
from sklearn.linear_model import LogisticRegression

import vitreous
from vitreous.data.composites.cutouts import find_cutouts
from vitreous.data.composites.sets import Plan, plan
from vitreous.data.images import evaluation_transform, list_images, open_image
from vitreous.training import load_recipe, train

NAME = "vit_small_patch14_dinov2.lvd142m"


@dataclass
class Arguments:
    """What to run."""

    shared: Path
    """Folder with `data/`."""

    out: Path = Path("runs/real")
    """Where models, pictures and runs go."""

    per_class: int = 12
    """Tiny-ImageNet pictures of each class that fit the head."""

    epochs: int = 4
    """Of each training."""

    lr: float = 1e-5
    """Learning rate (the paper's, for larger sets, are 5e-7 to 5e-6)."""


def unpack(arguments: Arguments, name: str) -> Path:
    """Unpack a data file once."""
    folder = arguments.out / "data" / name
    if not folder.is_dir():
        with zipfile.ZipFile(arguments.shared / "data" / f"{name}.zip") as archive:
            archive.extractall(folder)
    return folder


def with_head(arguments: Arguments) -> Path:
    """Fit a linear head on Tiny-ImageNet and save the classifier."""
    folder = arguments.out / "classifier"
    if (folder / "model.safetensors").is_file():
        return folder
    weights = arguments.shared / "data/weights/dinov2_vits14_saliency_fp16.safetensors"
    root = unpack(arguments, "tiny_imagenet_50")
    classes = sorted(p.name for p in (root / "train").iterdir())
    model = vitreous.load_model(
        NAME, checkpoint=weights, pretrained=False, image_size=224, num_classes=len(classes)
    )
    view = evaluation_transform(model.preprocessing)

    def features(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        found, labels = [], []
        for label, name in enumerate(classes):
            paths = list_images(root / split / name)[:count]
            images = torch.stack([view(open_image(path)) for path in paths])
            with torch.inference_mode():
                tokens = model.net.forward_features((images - model.mean) / model.std)
                found.append(model.net.forward_head(tokens, pre_logits=True).numpy())
            labels += [label] * len(paths)
        return np.concatenate(found), np.array(labels)

    inputs, labels = features("train", arguments.per_class)
    scale = inputs.std()
    readout = LogisticRegression(C=0.1, max_iter=500).fit(inputs / scale, labels)
    held, held_labels = features("val", 4)
    accuracy = readout.score(held / scale, held_labels)
    print(f"head: top-1 {accuracy:.3f} on {len(held)} Tiny-ImageNet validation pictures")
    with torch.no_grad():
        model.net.head.weight.copy_(torch.from_numpy(readout.coef_ / scale))
        model.net.head.bias.copy_(torch.from_numpy(readout.intercept_))
    return vitreous.save_model(model, folder)


def coco_masks(arguments: Arguments) -> tuple[Path, Path]:
    """Draw each photo's polygons that cover at least 1 % of it as one mask."""
    root = unpack(arguments, "coco64_seg")
    masks = arguments.out / "coco_masks"
    images = arguments.out / "coco_pictures"
    for path in list_images(root / "images"):
        image = open_image(path)
        label = root / "labels" / path.relative_to(root / "images").with_suffix(".txt")
        mask = Image.new("L", image.size)
        for line in label.read_text().splitlines() if label.is_file() else []:
            corners = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * image.size
            one = Image.new("L", image.size)
            ImageDraw.Draw(one).polygon([tuple(c) for c in corners], fill=255)
            if np.asarray(one).mean() / 255 >= 0.01:
                mask.paste(one, mask=one)
        if np.asarray(mask).any():
            for folder, drawn in ((masks, mask), (images, image)):
                folder.mkdir(parents=True, exist_ok=True)
                drawn.save(folder / f"{path.stem}.png")
    return images, masks


def composites(arguments: Arguments, count: int = 80) -> tuple[Path, Path]:
    """Put cut-outs on backgrounds and write pictures with their exact masks."""
    cutouts, names = find_cutouts(unpack(arguments, "tuxpaint_cutouts"))
    backgrounds = list_images(unpack(arguments, "si_score") / "background_samples")
    scenes = plan(cutouts, backgrounds, "random", steps=2, backgrounds_per_cutout=1)
    chosen = np.random.default_rng(0).choice(len(scenes), count, replace=False)
    items = Plan(cutouts, backgrounds, [scenes[i] for i in chosen], names, size=256)
    images, masks = arguments.out / "tux_pictures", arguments.out / "tux_masks"
    for index in range(len(items)):
        made = items.compose(index)
        if not made.mask.any():
            continue
        array = made.mask[0].mul(255).byte().numpy()
        for folder, drawn in ((images, made.image), (masks, Image.fromarray(array))):
            folder.mkdir(parents=True, exist_ok=True)
            drawn.save(folder / f"{index:04d}.png")
    return images, masks


def guide(arguments: Arguments, name: str, model: Path, images: Path, masks: Path) -> None:
    """Train by RobustViT's recipe and print what changed."""
    recipe = load_recipe(
        "robust_vit/vit_base",
        {
            "model": {"name": str(model), "pretrained": False},
            "data": {
                "name": "unlabelled",
                "images": str(images),
                "masks": str(masks),
                "validation_share": 0.25,
            },
            "objectives": {"relevance": {"target": "prediction"}},
            "optimizer": {"lr": arguments.lr},
            "training": {"epochs": arguments.epochs, "validation_batch_size": 8},
        },
    )
    results = train(recipe, arguments.out / name)
    for metric in ("loss", "relevance/foreground_share", "classification"):
        before, after = (
            results.find(metric=metric, moment=moment)[0] for moment in ("before", "after")
        )
        print(f"{name}: {metric} {before.value:.3f} → {after.value:.3f} (n = {after.n})")


def main(arguments: Arguments) -> None:
    """Run all parts."""
    torch.manual_seed(0)
    model = with_head(arguments)
    guide(arguments, "coco", model, *coco_masks(arguments))
    guide(arguments, "tuxpaint", model, *composites(arguments))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
