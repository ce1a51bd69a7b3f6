"""What a run leaves for its reader: sample maps before and after, and `results.json`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitreous.attribution import foreground_share, relevance
from vitreous.attribution.draw import overlay
from vitreous.config import plain
from vitreous.data.images import save_image
from vitreous.data.loading import TransformedDataset, collate
from vitreous.data.readers import Split
from vitreous.errors import UnsupportedModelError
from vitreous.io import read_json, write_json
from vitreous.models import Classifier
from vitreous.models.checkpoints import read_weights
from vitreous.models.fingerprint import model_fingerprint
from vitreous.provenance import provenance
from vitreous.results import Record, Results
from vitreous.training.progress import Progress
from vitreous.training.recipe import Recipe
from vitreous.training.run import RunFolder


def best_model(folder: RunFolder, classifier: Classifier) -> Classifier:
    """A copy of the run's classifier with the weights of the best epoch, in evaluation mode.

    The network is copied and not built anew, so it need not be one that timm knows.
    """
    best = copy.deepcopy(classifier).eval()
    best.net.load_state_dict(read_weights(folder.path / "model.safetensors").state)
    return best


def draw_samples(
    folder: RunFolder, classifier: Classifier, data: TransformedDataset, recipe: Recipe, when: str
) -> None:
    """Write relevance maps of some validation images, `before` or `after` the training.

    Files are `samples/{index}_{picture,mask,before,after}.png`; `samples/samples.json` lists
    them with each image's share of relevance on the foreground. Images are spread evenly over
    the set, so they show the good and the bad alike. Afterwards the best model is shown.
    """
    count = min(recipe.training.samples, len(data))
    if count == 0:
        return
    model = classifier if when == "before" else best_model(folder, classifier)
    chosen = [i * len(data) // count for i in range(count)]
    batch = collate([data[(0, i)] for i in chosen]).to(torch.device("cpu"))
    try:
        labelled = bool((batch.labels >= 0).all())
        target = batch.labels if labelled else None
        maps = relevance(model, batch.images.to(model.device), target).cpu()
    except UnsupportedModelError:
        return
    shares = foreground_share(maps, batch.masks)
    listing = folder.samples / "samples.json"
    rows: dict[str, dict[str, object]] = {}
    if when == "after" and listing.is_file():
        rows = {str(row["index"]): row for row in read_json(listing)}
    for place, index in enumerate(chosen):
        row = rows.setdefault(str(index), {"index": index, "label": int(batch.labels[place])})
        row["name"] = data.dataset.name(index).rsplit("/", 1)[-1]
        if labelled:
            row["class_name"] = classifier.class_name(int(batch.labels[place]))
        panel = batch.images[place]
        shown = {"picture": panel, when: overlay(panel, maps[place])}
        if batch.has_mask[place]:
            shown["mask"] = batch.masks[place]
            row[f"foreground_{when}"] = float(shares[place])
        drawn = row.get("files")
        files = _save_panels(folder.samples, index, shown)
        row["files"] = {**(drawn if isinstance(drawn, dict) else {}), **files}
    write_json(listing, list(rows.values()))


def _save_panels(folder: Path, index: int, shown: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the images of one sample; returns kind → name of the file."""
    files = {kind: f"{index}_{kind}.png" for kind in shown}
    for kind, image in shown.items():
        save_image(image, folder / files[kind])
    return files


def summarise(
    folder: RunFolder,
    classifier: Classifier,
    recipe: Recipe,
    split: Split,
    progress: Progress,
    compiled: Mapping[str, object] | None = None,
) -> Results:
    """Write what the validation said of the first and of the best epoch, and return it.

    Args:
        folder: Of the run.
        classifier: What the best model is built of.
        recipe: Of the run.
        split: Its images.
        progress: Where it stands: at its end.
        compiled: What was compiled, and in how many seconds, where something was.
    """
    records: list[Record] = []
    rows = [row for row in folder.read_metrics() if row["split"] == "validation"]
    count = len(split.validation)
    moments = {"before": 0, "after": progress.best_epoch}
    for moment, epoch in moments.items():
        row = next((r for r in rows if r["epoch"] == epoch), None)
        if row is not None:
            records += validation_records(row, count, moment, weights_text(recipe))
    made = provenance(
        "train",
        model=folder.path.resolve().name,
        fingerprint=model_fingerprint(best_model(folder, classifier)),
        seed=recipe.training.seed,
        seconds=progress.seconds,
    )
    # What the run started from has other weights.
    first = dataclasses.replace(made, fingerprint="")
    records = [
        dataclasses.replace(r, provenance=first) if r.settings["moment"] == "before" else r
        for r in records
    ]
    context = {
        "recipe": plain(recipe),
        "base_model": base_model(recipe, classifier),
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "train_images": len(split.train),
        "validation_images": count,
    }
    extra: dict[str, object] = {"split": split.describe()}
    if compiled is not None:
        extra["compiled"] = dict(compiled)
    if progress.warnings:
        extra["warnings"] = progress.warnings
    return Results.update(folder.path, records, made, extra=extra, context=context)


def base_model(recipe: Recipe, classifier: Classifier) -> str:
    """What a run started from: timm's name, a folder or a file; says where it was untrained."""
    settings = recipe.model
    if settings.checkpoint is not None:
        return f"{settings.checkpoint} ({settings.name})"
    built = classifier.architecture is None or Path(settings.name).exists()
    return settings.name if settings.pretrained or built else f"{settings.name}, untrained"


def weights_text(recipe: Recipe) -> str:
    """What the loss is the sum of: `0.2 classification, 4 relevance`."""
    weights = {name: plain(settings)["weight"] for name, settings in recipe.objectives.items()}
    return ", ".join(f"{weight:g} {name}" for name, weight in weights.items())


def validation_records(
    row: Mapping[str, object], count: int, moment: str, loss: str = ""
) -> list[Record]:
    """Records of one validation row, each with the images and the interval of its figure.

    Args:
        row: Of the metrics.
        count: Images of the validation, for rows that were written before figures had their own.
        moment: `before` or `after`.
        loss: What the loss is the sum of, which tells losses of different recipes apart.
    """
    counts, intervals = (row.get(name) for name in ("n", "ci95"))
    counts = counts if isinstance(counts, Mapping) else {}
    intervals = intervals if isinstance(intervals, Mapping) else {}
    records = []
    for key, value in row.items():
        if key in ("step", "epoch", "split") or not isinstance(value, int | float):
            continue
        ends = intervals.get(key)
        interval = (float(ends[0]), float(ends[1])) if ends else None
        metric, n = "top1" if key == "accuracy" else key, counts.get(key, count)
        settings = {"moment": moment} | ({"sum": loss} if loss and key == "loss" else {})
        records.append(Record("training", "validation", metric, value, n, interval, settings))
    return records
