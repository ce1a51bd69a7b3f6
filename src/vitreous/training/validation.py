"""Figures of a model over the validation images: each image once, nothing kept for a backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from vitreous.data.loading import TransformedDataset, load_batches
from vitreous.models import Classifier
from vitreous.results import wilson_interval
from vitreous.statistics import GROUPS, grouped_interval
from vitreous.training.objectives import Objective
from vitreous.training.step import StepLoss, compute_loss


@dataclasses.dataclass(frozen=True)
class Validated:
    """What was measured of a model on validation images.

    Attributes:
        means: Name → mean over the images that the figure is of.
        counts: Name → how many these are.
        intervals: Name → 95 % interval, of those figures that have one.
    """

    means: dict[str, float] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_shares(cls, right: Mapping[str, int], n: int) -> Validated:
        """Shares of `n` images, with Wilson's intervals."""
        intervals = {name: wilson_interval(count, n) for name, count in right.items()}
        means = {name: count / n for name, count in right.items()}
        return cls(means, dict.fromkeys(right, n), intervals)

    def __or__(self, other: Validated) -> Validated:
        """The figures of both."""
        parts = zip(*((v.means, v.counts, v.intervals) for v in (self, other)))
        return Validated(*({**first, **second} for first, second in parts))


@dataclasses.dataclass(frozen=True)
class Part:
    """A sum that a batch adds to a figure, and the images that it is of."""

    total: float
    images: int


Parts = dict[str, list[Part]]
PLAIN, MASKED, SUMS = "image *", "masked *", "image * sums"


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
) -> Validated:
    """Measure a model in evaluation mode; it is in training mode afterwards.

    Graphs are made only where an objective derives something itself, and end with their batch.
    Intervals are over batches, of which there are twenty at least where there are forty images.

    Args:
        accelerator: Shares the images among processes.
        classifier: The model, unwrapped.
        data: The validation images.
        objectives: Name → objective, weighed as at the end of the training.
        batch_size: Images in a forward pass at most, over all processes.
        workers: Processes that read images.
        together: Let every process make as many passes, because they wait for each other.

    Returns:
        Mean of each figure over all images; nothing without images.
    """
    count = len(data)
    if count == 0:
        return Validated()
    processes = accelerator.num_processes
    size = min(batch_size, count // GROUPS) if count >= 2 * GROUPS else batch_size
    share = max(1, size // processes)
    mine = list(range(count))[accelerator.process_index :: processes]
    batches = [mine[i : i + share] for i in range(0, len(mine), share)]
    longest = -(-count // processes)  # the first process's
    spare = -(-longest // share) - len(batches) if together else 0
    counted = [len(rows) for rows in batches] + [0] * spare
    batches += [[0]] * spare
    classifier.eval()
    sums: list[tuple[int, int, dict[str, torch.Tensor]]] = []
    # Epoch 0 of the validation transforms: the same random choices, if any, each time.
    for rows, batch in zip(counted, load_batches(data, batches, 0, workers)):
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            loss = compute_loss(
                classifier, classifier, batch, objectives, progress=1.0, together=together
            )
        if rows:  # else it stands in for none
            sums.append((rows, loss.masked_rows, _sums(loss, rows)))
    classifier.train()
    every = _over_processes(_on_host(sums))
    return _figures(every, count, min(batch_size, count))


def _sums(loss: StepLoss, rows: int) -> dict[str, torch.Tensor]:
    """Figures of a batch times the images they are means of, by `image NAME` or `masked NAME`."""
    masked = loss.masked_rows
    sums = {
        f"masked {key}" if key in loss.masked_figures else f"image {key}": value
        * (masked if key in loss.masked_figures else rows)
        for key, value in loss.figures.items()
        if key != "loss"
    }
    return {**sums, PLAIN: loss.plain * rows, MASKED: loss.masked * masked, SUMS: loss.sums}


def _on_host(sums: Sequence[tuple[int, int, dict[str, torch.Tensor]]]) -> Parts:
    """The parts of each figure, brought from the device at once.

    They are added up on the host: not every device has double precision.
    """
    named = [
        (name, masked if name.startswith("masked ") else rows, value)
        for rows, masked, figures in sums
        for name, value in figures.items()
    ]
    if not named:
        return {}
    totals = torch.stack([value.detach().float().reshape(()) for *_, value in named]).tolist()
    parts: Parts = {}
    for (name, images, _), total in zip(named, totals):
        parts.setdefault(name, []).append(Part(total, images))
    return parts


def _over_processes(own: Parts) -> Parts:
    """Parts of all processes, not all of which need have the same figures."""
    every = gather_object([own])
    names = sorted({name for parts in every for name in parts})
    return {name: [p for parts in every for p in parts.get(name, ())] for name in names}


def _figures(parts: Parts, images: int, batch_size: int) -> Validated:
    """Mean, number of images and interval of each figure, and of the loss that they add up to.

    An objective that is a sum over a batch counts as that of a batch of mean images; one that needs
    masks is left out where no image has one.
    """
    of_loss = [parts.pop(name) for name in (PLAIN, MASKED, SUMS)]
    told = {name.split(" ", 1)[1]: own for name, own in parts.items() if _images(own)}
    ratios = {name: _ratio(own) for name, own in told.items()}
    sums = [_ratio(own, factor) for own, factor in zip(of_loss, (1, 1, batch_size))]
    ratios["loss"] = sum(mean for mean, _ in sums), np.sum([moved for _, moved in sums], axis=0)
    told["loss"] = of_loss[0]
    intervals = {
        name: grouped_interval(*ratio, sum(part.images > 0 for part in told[name]))
        for name, ratio in ratios.items()
    }
    means = {name: mean for name, (mean, _) in sorted(ratios.items())}
    if "accuracy" in means:
        intervals["accuracy"] = wilson_interval(round(means["accuracy"] * images), images)
    return Validated(
        means,
        {name: _images(own) for name, own in sorted(told.items())},
        {name: ends for name, ends in sorted(intervals.items()) if ends is not None},
    )


def _images(parts: Iterable[Part]) -> int:
    return sum(part.images for part in parts)


def _ratio(parts: Sequence[Part], factor: float = 1.0) -> tuple[float, np.ndarray]:
    """Mean over images of what batches add up to, and how far each batch moves it."""
    totals = np.array([part.total for part in parts], dtype=np.float64) * factor
    sizes = np.array([part.images for part in parts], dtype=np.float64)
    images = max(sizes.sum(), 1.0)
    mean = totals.sum() / images
    return float(mean), (totals - sizes * mean) / images
