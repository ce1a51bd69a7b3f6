"""How long metrics of relevance maps take here and in Quantus, on the same maps and network.

    python benchmarks/explanation_metrics.py --images 16 --side 64 --out explanation_metrics.json

Runs where both vitreous and quantus are installed. Each metric is measured by both in turn, several
times, on one thread, in seconds of the processor; the least counts, since other work on the machine
only adds, and only the ratio within one run means much. Values are compared first.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vitreous.attribution.scores import foreground_share
from vitreous.evaluation.explanation_metrics.complexity import entropy, gini
from vitreous.evaluation.explanation_metrics.faithfulness import (
    infidelity,
    pixel_flipping,
    remove_and_debias,
)
from vitreous.evaluation.explanation_metrics.localization import rank_accuracy, roc_area
from vitreous.evaluation.explanation_metrics.stability import (
    max_sensitivity,
    randomized,
    rank_correlation,
)
from vitreous.io import write_json

CLASSES, STEPS, DRAWS, RADIUS, SHARES = 10, 16, 4, 0.05, (30, 60, 90)


@dataclasses.dataclass(frozen=True)
class Work:
    """Images (N, 1, S, S) with maps and masks, and a network of two linear layers.

    The network is small, so that what is timed is the metric and not the passes that both need.
    """

    count: int
    side: int

    def network(self) -> nn.Module:
        """The same network each time."""
        torch.manual_seed(0)
        layers = (nn.Flatten(), nn.Linear(self.side**2, 16), nn.GELU(), nn.Linear(16, CLASSES))
        return nn.Sequential(*layers).eval()

    def arrays(self) -> dict[str, np.ndarray]:
        """Images, maps, masks and the classes that are predicted."""
        random, shape = np.random.default_rng(0), (self.count, 1, self.side, self.side)
        masks = np.zeros(shape, bool)
        masks[..., self.side // 4 : self.side // 2, self.side // 4 : -self.side // 4] = True
        images = random.random(shape, np.float32)
        labels = self.network()(torch.from_numpy(images)).argmax(1).numpy()
        maps = random.random(shape, np.float32)
        return {"images": images, "maps": maps, "masks": masks, "labels": labels}


def gradients(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
    """The explanation of metrics that explain anew: absolute derivatives of the class's logit."""
    images = torch.as_tensor(np.asarray(inputs, np.float32)).requires_grad_()
    chosen = model(images)[torch.arange(len(images)), torch.as_tensor(targets)]
    (gradient,) = torch.autograd.grad(chosen.sum(), images)
    return gradient.abs().numpy()


def ours(work: Work) -> dict[str, Callable[[], object]]:
    """Metric → what computes it here."""
    net, given = work.network(), work.arrays()
    images, maps = torch.from_numpy(given["images"]), torch.from_numpy(given["maps"])
    labels, masks = torch.from_numpy(given["labels"]), given["masks"]
    own, size = gradients(net, given["images"], given["labels"]), work.side // 4

    def score(changed: Tensor) -> Tensor:
        with torch.no_grad():
            return net(changed)[torch.arange(len(changed)), labels]

    def squares() -> Iterator[Tensor]:
        changed = images.clone()
        for top in range(0, work.side, size):
            for left in range(0, work.side, size):
                changed[..., top : top + size, left : left + size] = 0
                yield changed  # of which the metric keeps nothing

    def road() -> list[float]:
        curve = []
        for share in SHARES:
            filled = remove_and_debias(images, maps, share / 100, range(work.count), noise=0.0)
            curve.append(float((net(filled).argmax(1) == labels).double().mean()))
        return curve

    def sensitivity() -> Tensor:
        random, shape = np.random.RandomState(0), (DRAWS, *images.shape)
        # Quantus adds noise in double precision and rounds the sum, so that the images are the same
        noisy = (given["images"] + random.uniform(-RADIUS, RADIUS, shape)).astype(np.float32)
        return max_sensitivity(
            lambda x: torch.from_numpy(gradients(net, x.numpy(), given["labels"])),
            torch.from_numpy(own),
            torch.from_numpy(noisy),
        )

    def cascade() -> list[np.ndarray]:
        with randomized(net, 2) as stages:
            return [
                rank_correlation(own, gradients(net, given["images"], given["labels"]))
                for _ in stages
            ]

    return {
        "rank_accuracy": lambda: rank_accuracy(given["maps"][:, 0], masks[:, 0]),
        "mass": lambda: foreground_share(maps, torch.from_numpy(masks)),
        "roc_area": lambda: roc_area(given["maps"][:, 0], masks[:, 0]),
        "gini": lambda: gini(given["maps"][:, 0]),
        "entropy": lambda: entropy(given["maps"][:, 0]),
        "pixel_flipping": lambda: pixel_flipping(score, images, maps, STEPS),
        "infidelity": lambda: infidelity(score, images, maps, squares()),
        "road": road,
        "max_sensitivity": sensitivity,
        "parameter_randomization": cascade,
    }


def theirs(work: Work) -> dict[str, Callable[[], object]]:
    """Metric → what computes it in Quantus, all images in one batch."""
    import quantus  # ty: ignore[import-not-found]

    plain = {
        "abs": False,
        "normalise": False,
        "disable_warnings": True,
        "display_progressbar": False,
    }
    given, net = work.arrays(), work.network()
    own = gradients(net, given["images"], given["labels"])

    def measure(metric: Callable[..., object], maps: np.ndarray, **more: object) -> object:
        np.random.seed(0)
        return metric(
            model=net,
            x_batch=given["images"].copy(),
            y_batch=given["labels"],
            a_batch=maps.copy(),
            s_batch=given["masks"],
            device="cpu",
            channel_first=True,
            softmax=False,
            batch_size=work.count,
            **more,
        )

    squares = [work.side // 4]
    width, zero = -(-(work.side**2) // STEPS), {"perturb_baseline": 0.0, **plain}
    metrics = {
        "rank_accuracy": quantus.RelevanceRankAccuracy(**plain),
        "mass": quantus.RelevanceMassAccuracy(**plain),
        "roc_area": quantus.AUC(**plain),
        "gini": quantus.Sparseness(**plain),
        "entropy": quantus.Complexity(**plain),
        "pixel_flipping": quantus.PixelFlipping(features_in_step=width, **zero),
        "infidelity": quantus.Infidelity(perturb_patch_sizes=squares, n_perturb_samples=1, **zero),
        "road": quantus.ROAD(percentages=list(SHARES), noise=0.0, **plain),
    }
    calls = {n: (lambda m=m: measure(m, given["maps"])) for n, m in metrics.items()}
    sensitivity = quantus.MaxSensitivity(nr_samples=DRAWS, lower_bound=RADIUS, **plain)
    spearman = quantus.similarity_func.correlation_spearman
    cascade = quantus.MPRT(
        similarity_func=spearman,
        layer_order="top_down",
        seed=42,
        return_average_correlation=False,
        **plain,
    )
    return calls | {
        "max_sensitivity": lambda: measure(sensitivity, own, explain_func=gradients),
        "parameter_randomization": lambda: measure(cascade, own, explain_func=gradients),
    }


def as_array(values: object) -> np.ndarray:
    """Values of either, in one shape."""
    if isinstance(values, dict):
        values = [kept for name, kept in values.items() if name != "original"]
    return np.asarray(values, dtype=np.float64)


def relative(values: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, by the largest value."""
    return float(np.abs(values - wanted).max() / np.abs(wanted).max())


def compare(work: Work, repeats: int, metrics: list[str]) -> dict[str, dict[str, float]]:
    """Metric → seconds here and there (the least), their ratio, and the largest difference."""
    table, others = {}, theirs(work)
    for name, call in ((n, c) for n, c in ours(work).items() if n in (metrics or [n])):
        difference = relative(as_array(call()), as_array(others[name]()))
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for kept, measured in zip(seconds, (call, others[name])):
                started = time.process_time()
                measured()
                kept.append(time.process_time() - started)
        here, there = (min(kept) for kept in seconds)
        row = {"here": here, "quantus": there, "ratio": there / here, "difference": difference}
        table[name] = row
        print(f"{name:24s} {here:10.5f} s {there:10.5f} s {there / here:8.1f} x  {difference:.1e}")
        sys.stdout.flush()
    return table


def main() -> None:
    """Compare, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--metrics", nargs="*", default=[], help="all by default")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    work = Work(arguments.images, arguments.side)
    table = compare(work, arguments.repeats, arguments.metrics)
    if arguments.out is not None:
        settings = {"images": arguments.images, "side": arguments.side}
        write_json(arguments.out, {"settings": settings, "metrics": table})


if __name__ == "__main__":
    main()
