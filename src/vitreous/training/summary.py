"""What a run leaves for its reader: sample maps before and after, and `results.json`."""

from __future__ import annotations

from typing import Any

from vitreous.attribution import foreground_share, relevance
from vitreous.attribution.draw import overlay
from vitreous.config import plain
from vitreous.data.images import save_image
from vitreous.data.items import TransformedDataset, collate
from vitreous.data.readers import Split
from vitreous.errors import UnsupportedModelError
from vitreous.io import read_json, write_json
from vitreous.models import Classifier, load_model
from vitreous.results import Record, Results, accuracy_record, run_context
from vitreous.training.recipe import Recipe
from vitreous.training.run import RunFolder


def draw_samples(
    folder: RunFolder, classifier: Classifier, data: TransformedDataset, recipe: Recipe, when: str
) -> None:
    """Write relevance maps of some validation pictures, `before` or `after` the training.

    Files are `samples/{index}_{picture,mask,before,after}.png`; `samples/samples.json` lists
    them with each picture's share of relevance on the foreground. Pictures are spread evenly over
    the set, so they show the good and the bad alike. Afterwards the best model is shown.
    """
    count = min(recipe.training.samples, len(data))
    if count == 0:
        return
    model = classifier if when == "before" else load_model(folder.path, device=classifier.device)
    chosen = [i * len(data) // count for i in range(count)]
    batch = collate([data[(0, i)] for i in chosen])
    try:
        labelled = bool((batch.labels >= 0).all())
        target = batch.labels if labelled else None
        maps = relevance(model, batch.images.to(model.device), target).cpu()
    except UnsupportedModelError:
        return
    shares = foreground_share(maps, batch.masks)
    listing = folder.samples / "samples.json"
    rows: dict[str, Any] = {}
    if when == "after" and listing.is_file():
        rows = {str(row["index"]): row for row in read_json(listing)}
    for place, index in enumerate(chosen):
        masked = bool(batch.has_mask[place])
        row = rows.setdefault(str(index), {"index": index, "label": int(batch.labels[place])})
        row["name"] = data.items.name(index).rsplit("/", 1)[-1]
        if labelled:
            row["class_name"] = classifier.class_name(int(batch.labels[place]))
        files = row.setdefault("files", {})
        panel = batch.images[place]
        shown = {"picture": panel, when: overlay(panel, maps[place])}
        if masked:
            shown["mask"] = batch.masks[place]
            row[f"foreground_{when}"] = float(shares[place])
        for kind, image in shown.items():
            files[kind] = f"{index}_{kind}.png"
            save_image(image, folder.samples / files[kind])
    write_json(listing, list(rows.values()))


def summarise(
    folder: RunFolder,
    classifier: Classifier,
    recipe: Recipe,
    split: Split,
    progress: dict[str, Any],
) -> Results:
    """Collect what the validation said of the first and of the best epoch."""
    results = Results(folder.path.name, context=run_context(recipe.training.seed))
    rows = [row for row in folder.read_metrics() if row["split"] == "validation"]
    count = len(split.validation)
    moments = {"before": 0, "after": progress["best_epoch"]}
    for moment, epoch in moments.items():
        row = next((r for r in rows if r["epoch"] == epoch), None)
        if row is not None:
            results.add(validation_records(row, count, moment))
    results.context.update(
        recipe=plain(recipe),
        base_model=classifier.name,
        best_epoch=progress["best_epoch"],
        epochs=progress["epoch"],
        train_images=len(split.train),
        validation_images=count,
    )
    results.extra["split"] = split.note
    if progress["warnings"]:
        results.extra["warnings"] = progress["warnings"]
    return results


def validation_records(row: dict[str, Any], count: int, moment: str) -> list[Record]:
    """Records of one validation row."""
    records = []
    for key, value in row.items():
        if key in ("step", "epoch", "split") or value is None:
            continue
        if key == "accuracy":
            correct = round(value * count)
            records.append(
                accuracy_record("training", "validation", "top1", correct, count, moment=moment)
            )
        else:
            records.append(
                Record("training", "validation", key, value, count, settings={"moment": moment})
            )
    return records
