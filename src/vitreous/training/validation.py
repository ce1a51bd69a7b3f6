"""Figures of a model over the validation images: each image once, nothing kept for a backward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from vitreous.data.loading import TransformedDataset, load_batches
from vitreous.models import Classifier
from vitreous.training.objectives import Objective
from vitreous.training.step import StepLoss, compute_loss


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    classifier: Classifier,
    data: TransformedDataset,
    objectives: Mapping[str, Objective],
    *,
    batch_size: int,
    workers: int = 0,
    together: bool = False,
) -> dict[str, float]:
    """Measure a model in evaluation mode; it is in training mode afterwards.

    Graphs are made only where an objective derives something itself, and end with their batch.

    Args:
        accelerator: Shares the images among processes.
        classifier: The model, unwrapped.
        data: The validation images.
        objectives: Name → objective, weighed as at the end of the training.
        batch_size: Images in a forward pass, over all processes.
        workers: Processes that read images.
        together: Let every process make as many passes, because they wait for each other.

    Returns:
        Mean of each figure over all images; empty without images.
    """
    count = len(data)
    if count == 0:
        return {}
    share = max(1, batch_size // accelerator.num_processes)
    mine = list(range(count))[accelerator.process_index :: accelerator.num_processes]
    batches = [mine[i : i + share] for i in range(0, len(mine), share)]
    longest = -(-count // accelerator.num_processes)  # the first process's
    spare = -(-longest // share) - len(batches) if together else 0
    counted = [len(rows) for rows in batches] + [0] * spare
    batches += [[0]] * spare
    classifier.eval()
    sums: dict[str, list[torch.Tensor]] = {}
    # Epoch 0 of the validation transforms: the same random choices, if any, each time.
    for rows, batch in zip(counted, load_batches(data, batches, 0, workers)):
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            loss = compute_loss(
                classifier, classifier, batch, objectives, progress=1.0, together=together
            )
        if not rows:
            continue  # it stands in for none
        for key, value in _sums(loss, rows).items():
            sums.setdefault(key, []).append(value.detach().float())
    classifier.train()
    return _means(_over_processes(sums), count, min(batch_size, count))


def _sums(loss: StepLoss, rows: int) -> dict[str, torch.Tensor]:
    """Figures of a batch times the images they are means of, by `image NAME` or `masked NAME`."""
    masked = loss.masked_rows
    sums = {
        f"masked {key}" if key in loss.masked_figures else f"image {key}": value
        * (masked if key in loss.masked_figures else rows)
        for key, value in loss.figures.items()
        if key != "loss"
    }
    counted = torch.full_like(loss.sums, masked)
    parts = {"plain": loss.plain * rows, "masked": loss.masked * masked, "sums": loss.sums}
    return {**sums, **parts, "rows": counted}


def _over_processes(sums: Mapping[str, Sequence[torch.Tensor]]) -> dict[str, float]:
    """Sum figures over batches and processes, not all of which need have the same ones.

    They are added up on the host: not every device has double precision.
    """
    own = {name: math.fsum(torch.stack(list(parts)).tolist()) for name, parts in sums.items()}
    every = gather_object([own])
    names = sorted({name for totals in every for name in totals})
    return {name: math.fsum(totals.get(name, 0.0) for totals in every) for name in names}


def _means(totals: dict[str, float], images: int, batch_size: int) -> dict[str, float]:
    """Divide totals by the images that they are of, and put the loss together of its parts.

    An objective that is a sum over a batch counts as that of a batch of mean images; one that needs
    masks is left out where no image has one.
    """
    masked = totals.pop("rows")
    counts = {"image": images, "masked": max(masked, 1.0)}
    loss = totals.pop("plain") / images + totals.pop("masked") / counts["masked"]
    loss += totals.pop("sums") / images * batch_size
    split = [(*key.split(" ", 1), value) for key, value in totals.items()]
    named = [(kind, name, value) for kind, name, value in split if kind == "image" or masked]
    means = {name: value / counts[kind] for kind, name, value in named}
    return dict(sorted({**means, "loss": loss}.items()))
