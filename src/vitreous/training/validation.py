"""Figures of a model over the validation images: each image once, nothing kept for a backward."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator

from vitreous.data.loading import TransformedDataset, load_batches
from vitreous.models import Classifier
from vitreous.training.objectives import Objective
from vitreous.training.step import compute_loss


@torch.no_grad()
def validate(
    accelerator: Accelerator,
    classifier: Classifier,
    data: TransformedDataset,
    objectives: Mapping[str, Objective],
    *,
    batch_size: int,
    workers: int = 0,
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

    Returns:
        Mean of each figure over all images; empty without images.
    """
    count = len(data)
    if count == 0:
        return {}
    share = max(1, batch_size // accelerator.num_processes)
    mine = list(range(count))[accelerator.process_index :: accelerator.num_processes]
    batches = [mine[i : i + share] for i in range(0, len(mine), share)]
    classifier.eval()
    totals: dict[str, torch.Tensor] = {}
    # Epoch 0 of the validation transforms: the same random choices, if any, each time.
    for batch in load_batches(data, batches, 0, workers):
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            loss = compute_loss(classifier, classifier, batch, objectives, progress=1.0)
        for key, value in loss.figures.items():
            totals[key] = totals.get(key, 0.0) + value.double() * len(batch)
    keys = sorted(totals)
    summed = torch.stack([totals[k].reshape(()) for k in keys]) if keys else torch.zeros(0)
    if accelerator.num_processes > 1:
        summed = accelerator.reduce(summed, "sum")
    classifier.train()
    return dict(zip(keys, (summed / count).tolist()))
