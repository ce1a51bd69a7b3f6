"""The best and worst images of a set, written beside `results.json` with their maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vitreous.attribution import relevance
from vitreous.attribution.draw import overlay
from vitreous.data.images import save_image, to_tensor
from vitreous.errors import ImageError, UnsupportedModelError
from vitreous.evaluation.loading import crop_for
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.records import answer_name, target_names
from vitreous.evaluation.rows import READ
from vitreous.fingerprint import digest
from vitreous.models import Classifier
from vitreous.names import folder_name
from vitreous.processes import ALONE, Processes

MAPS = ("gradient_attention", "input_gradient")


def write_samples(
    classifier: Classifier,
    predictions: Predictions,
    folder: Path,
    count: int = 6,
    processes: Processes = ALONE,
) -> dict[str, list[dict[str, object]]]:
    """Write the surest right and the surest wrong images with their relevance maps.

    Args:
        classifier: The model that answered.
        predictions: Its answers.
        folder: Where `results.json` is; images go below `samples/evaluation/`.
        count: How many of each.
        processes: Which of several processes this is; each writes its share.

    Returns:
        `best` and `worst`, as `vitreous.evaluation` describes them.
    """
    rows = predictions.rows[predictions.counted & (predictions.rows["status"] == READ)]
    order = rows[np.argsort(-rows["confidence"], kind="stable")]
    chosen = {"best": order[order["rank0"] == 0], "worst": order[order["rank0"] > 0]}
    rows = [(kind, place) for kind in chosen for place in range(len(chosen[kind][:count]))]
    own = [
        (kind, place, _write(classifier, predictions, chosen[kind][place], folder))
        for kind, place in rows[processes.rank :: processes.count]
    ]
    entries = {(kind, place): entry for kind, place, entry in processes.gather(own)}
    return {
        kind: [entries[row] for row in rows if row[0] == kind and entries[row] is not None]
        for kind in chosen
    }


def _maps(classifier: Classifier, images: torch.Tensor) -> torch.Tensor | None:
    """Maps by the first method that holds for this model."""
    for method in MAPS:
        try:
            return relevance(classifier, images, method=method)
        except UnsupportedModelError:
            continue
    return None


def _write(
    classifier: Classifier,
    predictions: Predictions,
    row: np.void,
    folder: Path,
) -> dict[str, object] | None:
    test_set, index = predictions.test_set, int(row["index"])
    try:
        thumbnail = crop_for(test_set, predictions.preprocessing)(
            test_set.dataset.images.open(index)
        )
    except ImageError:
        return None
    image = to_tensor(thumbnail)
    # Named by what was measured and by the image, so that images of another state of the model,
    # of a set of the same name or of a limited call stay what the entries that name them say.
    measured = test_set.name if predictions.folder is None else predictions.folder.name
    place = Path("samples", "evaluation", folder_name(measured))
    name = digest(test_set.dataset.name(index))[:12]
    save_image(image, folder / place / f"{name}.png")
    target = int(test_set.targets[index])
    entry: dict[str, object] = {
        "picture": (place / f"{name}.png").as_posix(),
        "relevance": None,
        "file": test_set.dataset.name(index),
        "label": target_names(test_set)[target],
        "prediction": answer_name(classifier, predictions, int(row["prediction0"])),
        "confidence": float(row["confidence"]),
        "nll": float(row["nll"]),
    }
    maps = _maps(classifier, image[None].to(classifier.device))
    if maps is not None:
        save_image(overlay(image, maps[0]), folder / place / f"{name}-relevance.png")
        entry["relevance"] = (place / f"{name}-relevance.png").as_posix()
    return entry
