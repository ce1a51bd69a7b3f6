"""Small data sets and recipes that tests make on disk."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from vitreous.io import write_json
from vitreous.models import Classifier, Preprocessing, load_model
from vitreous.processes import Processes
from vitreous.results import Record, Results, accuracy_record

TINY_MODEL: dict[str, Any] = {
    "name": "vit_tiny_patch16_224",
    "pretrained": False,
    "image_size": 32,
    "options": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
}
TINY_CROSSVIT: dict[str, Any] = {
    "img_scale": (1.0, 1.0),
    "patch_size": (8, 16),
    "embed_dim": (12, 24),
    "depth": ((1, 1, 0),),
    "num_heads": (3, 3),
}


# Relevance methods with rules for timm's plain Vision Transformers alone; test_propagation says
# what they refuse.
TIMM_PLAIN = ("attn_lrp", "cp_lrp", "transformer_attribution")


def tiny_vit(num_classes: int = 6, *, seed: int = 0, **options: Any) -> Classifier:
    """A ViT of `TINY_MODEL` with weights that follow from the seed; options beside its own."""
    torch.manual_seed(seed)
    class_names = options.pop("class_names", ())
    return load_model(
        TINY_MODEL["name"],
        pretrained=False,
        num_classes=num_classes,
        image_size=TINY_MODEL["image_size"],
        class_names=class_names,
        **{**TINY_MODEL["options"], **options},
    )


def write_noise(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Pictures of noise, `0.png` and on, of a height and width."""
    folder.mkdir(parents=True)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.png")
    return folder


def write_masked_set(root: Path, classes: int = 3, per_class: int = 5, size: int = 40) -> None:
    """Write `images/CLASS/*.png` with a coloured square each, and `masks/CLASS/*.png`."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        for index in range(per_class):
            image = generator.integers(0, 80, (size, size, 3), dtype=np.uint8)
            mask = np.zeros((size, size), dtype=np.uint8)
            top, left = generator.integers(4, size // 2 - 2, 2)
            image[top : top + 16, left : left + 16, label % 3] = 230
            mask[top : top + 16, left : left + 16] = 255
            for folder, array in (("images", image), ("masks", mask)):
                path = root / folder / f"class_{label}" / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)


def masked_samples(root: Path) -> Iterator[tuple[str, str, bytes, bytes | None]]:
    """Name, class, image and mask of each image of such a set, in its order."""
    for file in sorted((root / "images").rglob("*.png")):
        name = file.relative_to(root / "images").with_suffix("").as_posix()
        mask = root / "masks" / f"{name}.png"
        label, content = file.parent.name, file.read_bytes()
        yield name, label, content, mask.read_bytes() if mask.is_file() else None


def write_tar_shards(root: Path, out: Path, per_shard: int = 4) -> Path:
    """Write such a set as webdataset's shards, with masks in them."""
    from webdataset.writer import ShardWriter

    out.mkdir()
    with ShardWriter(str(out / "%03d.tar"), maxcount=per_shard, verbose=0) as writer:
        for name, label, image, mask in masked_samples(root):
            sample = {"__key__": name, "png": image, "cls": label}
            writer.write(sample if mask is None else {**sample, "mask.png": mask})
    return out


def write_hugging_face(root: Path, out: Path) -> Path:
    """Write such a set as `datasets` keeps one on disk, with a column of masks."""
    import datasets

    names, labels, images, masks = zip(*masked_samples(root))
    classes = datasets.ClassLabel(names=sorted(set(labels)))
    features = {"image": datasets.Image(), "label": classes, "mask": datasets.Image()}
    columns = {
        "image": [{"bytes": image, "path": name} for name, image in zip(names, images)],
        "label": classes.str2int(list(labels)),
        "mask": [None if mask is None else {"bytes": mask, "path": None} for mask in masks],
    }
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.save_to_disk(str(out), num_shards=2)
    return out


def small_crossvit() -> Classifier:
    """A CrossViT of two tiny branches for images of 64 px and five classes."""
    net = timm.models.crossvit.CrossVit(
        img_size=64,
        img_scale=(1.0, 1.0),
        patch_size=(8, 16),
        embed_dim=(12, 24),
        depth=((1, 2, 0),),
        num_heads=(2, 2),
        mlp_ratio=(1, 1, 1),
        num_classes=5,
    )
    return Classifier(net, preprocessing=Preprocessing(size=(64, 64))).eval()


def tiny_recipe(root: Path, **overrides: Any) -> dict[str, Any]:
    """A RobustViT recipe on that set: three epochs of a tiny ViT."""
    values: dict[str, Any] = {
        "model": TINY_MODEL,
        "data": {
            "name": "folders",
            "images": str(root / "images"),
            "masks": str(root / "masks"),
            "validation_share": 0.2,
        },
        "transforms": {
            "train": {"random_crop": {"size": 32}, "flip": {}},
            "validation": {"center_crop": {"size": 32}},
        },
        "objectives": {"classification": {"weight": 0.2}, "relevance": {"weight": 0.8}},
        "optimizer": {"lr": 1e-3, "weight_decay": 1e-4},
        "schedule": {"name": "step"},
        "training": {"epochs": 3, "batch_size": 4, "trackers": [], "samples": 2},
    }
    return {**values, **overrides}


def write_squares(root: Path, count: int) -> Path:
    """Pictures with a bright square in two classes (`images/c0`, `c1`), and their `masks/`."""
    random = np.random.default_rng(0)
    for i in range(count):
        pixels = random.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4 + i : 16 + i, 8:20] = 255
        pixels[mask > 0] += 120
        for kind, array in (("images", pixels), ("masks", mask)):
            file = root / kind / f"c{i % 2}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
    return root


def make_results(name: str, gain: int = 0) -> Results:
    """Results with numbers that occur nowhere else, so that a search finds the right one."""
    results = Results(name)
    add = accuracy_record
    results.add(
        [
            add("clean", "photos", "top1", 913 + gain, 1000),
            add("shifts", "sketches", "top1", 417 + 9 * gain, 1000),
            add("attack", "photos", "top1", 231 + gain, 1000, attack="pgd", epsilon=2 / 255),
            add("attack", "photos", "top1", 127 + gain, 1000, attack="pgd", epsilon=4 / 255),
            add("attack", "photos", "top1", 53 + gain, 1000, attack="pgd", epsilon=8 / 255),
            *(add("rotation", "photos", "top1", 700 + a // 90, 1000, angle=a) for a in (0, 90)),
            Record("explanation", "photos", "foreground_share", 0.5731, 40, (0.551, 0.592)),
            Record(
                *("brain", "monkeys", "ceiled", 0.4389, 168, None),
                {"region": "V4", "layer": name, "convention": "brainscore_2022"},
            ),
        ]
    )
    layers = [{"layer": f"blocks.{i}", "depth": i, "score": i / 17} for i in range(3)]
    results.extra |= {"depth": {"V4": layers}, "rdms": {f"IT {name}": [[0, 0.5], [0.5, 0]]}}
    results.extra["brain_reference"] = {"AlexNet": {"V4": 0.2997}}
    results.extra["notes"] = "Nothing rose beyond its interval."
    results.context = {"command": "vitreous train x", "seed": 3, "versions": {"torch": "9.9.9"}}
    return results


def make_run(folder: Path, name: str, gain: int = 0) -> Path:
    """A run folder with curves, samples, a strip and a recipe."""
    make_results(name, gain).write(folder / "results.json")
    lines = [{"step": s, "split": "train", "loss": 3.0 - s / 10} for s in range(5)]
    lines += [{"step": s, "split": "val", "loss": 2.0, "top1": 0.5 + s / 10} for s in (2, 4)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 9, "lo')
    (folder / "recipe.yaml").write_text("model: {name: vit_test}\n")
    (folder / "samples").mkdir(exist_ok=True)
    entries = []
    for index in range(10):
        files = {role: f"{index}_{role}.png" for role in ("picture", "mask", "before", "after")}
        for file in files.values():
            pixels = np.full((24, 24, 3), 20 * index, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "samples" / file)
        after = 0.5 + (index - 5) / 20
        entries.append({"index": index, "label": f"thing{index}", "files": files})
        entries[-1] |= {"foreground_before": 0.5, "foreground_after": after}
    write_json(folder / "samples" / "samples.json", entries)
    strip = [{"title": "dog → cat", "files": {"clean": "../samples/0_picture.png"}}]
    write_json(folder / "targeted" / "targeted.json", strip)
    return folder


def as_processes(count: int, work: Callable[[Processes], Any]) -> list[Any]:
    """Do work as several processes would, in threads that wait for each other."""
    barrier = threading.Barrier(count, timeout=60)

    def wait() -> None:
        barrier.wait()

    def rank(number: int) -> Any:
        try:
            return work(Processes(number, count, wait))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(rank, range(count)))
