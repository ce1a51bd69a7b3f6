"""How cost grows: with the batch, tokens, layers, images and features; a table and a figure.

    python benchmarks/cost.py
    python benchmarks/cost.py --repeats 1 --out /tmp/cost.png

Relevance maps of a small DeiT against the published formulation and the floor of `relevance.py`;
the evaluation of stored images against the bare forward pass on images in memory, as in
`evaluation.py`; PLS against scikit-learn's and its floor, as in `brain.py`. Each quantity grows
alone. The alternatives take turns; told are medians, half of what lies between the quartiles, the
floor's share (its time over ours) and, measured apart, the peak of memory beyond what was there. By
--threads of torch's threads.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from threadpoolctl import threadpool_limits

import vitreous
import vitreous.brain
from brain import COMPONENTS, IMAGES, floor_of_pls, make_data, scikit_learn
from evaluation import BATCH, SIZE, lay_out, own_set
from memory import peaks
from relevance import floor_relevance, published_relevance
from turns import medians, ratio, take_turns, told_spread
from vitreous.device import resolve_workers
from vitreous.evaluation.evaluators.accuracy import predict
from vitreous.evaluation.stream import StreamSettings
from vitreous.io import atomic_path

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "cost.png"
MODEL = "deit_small_patch16_224"
Work = dict[str, Callable[[], object]]


def relevance_work(batch: int = 2, size: int = 224, layers: int = 12) -> Work:
    """Maps of a batch: ours, the published formulation, the floor."""
    torch.manual_seed(0)
    model = vitreous.load_model(MODEL, pretrained=False, image_size=size, depth=layers)
    images, labels = torch.rand(batch, 3, size, size), torch.arange(batch)
    work: Work = {
        "ours": lambda: vitreous.relevance(model, images, labels),
        "floor": lambda: floor_relevance(model, images, labels),
    }
    if size == SIZE:  # it knows one grid of patches
        work["published"] = lambda: published_relevance(model, images, labels)
    return work


def evaluation_work(folder: Path, count: int) -> Work:
    """Answers for images on the disk, and the forward pass alone."""
    model = vitreous.load_model(MODEL, pretrained=False)
    lay_out(folder / "set", None, count, (500, 375))
    test_set, batch = own_set(folder / "set", 1000), torch.rand(BATCH, 3, SIZE, SIZE)
    workers = resolve_workers("auto", torch.device("cpu"))  # as the command has it
    streaming = StreamSettings(batch_size=BATCH, workers=workers, progress=False)

    def ours() -> int:
        return sum(len(r) for r, _ in predict(model, test_set, range(count), streaming=streaming))

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, count, BATCH):
                model(batch[: count - start])

    return {"ours": ours, "floor": bare}


def pls_work(units: int) -> Work:
    """Ten splits of PLS with 25 components; scikit-learn does one of them."""
    features, responses, groups = make_data(units)
    first = vitreous.brain.Splits().draw(IMAGES, groups)[:1]
    return {
        "ours": lambda: vitreous.brain.pls_predictivity(features, responses, groups),
        "scikit-learn, a tenth": lambda: scikit_learn(features, responses, first),
        "floor": lambda: floor_of_pls(features, 10),
    }


def cases(folder: Path) -> Iterator[tuple[str, int, Callable[[], Work]]]:
    """What grows, how far, and the work."""
    for batch in (1, 2, 4, 8, 16):
        yield "images in a batch", batch, partial(relevance_work, batch)
    for size in (112, 160, 224, 320, 448):
        yield "tokens", (size // 16) ** 2 + 1, partial(relevance_work, 2, size)
    for layers in (2, 4, 8, 12, 24):
        yield "layers", layers, partial(relevance_work, layers=layers)
    for count in (32, 64, 128):
        yield "images evaluated", count, partial(evaluation_work, folder / str(count), count)
    for units in (500, 1000, 2000, 4000):
        yield f"features (PLS-{COMPONENTS})", units, partial(pls_work, units)


def draw(axes: Axes, title: str, points: dict[int, dict[str, float]]) -> None:
    """One panel: seconds against what grows, both by doubling."""
    for name in dict.fromkeys(n for seconds in points.values() for n in seconds):
        known = [(number, seconds[name]) for number, seconds in points.items() if name in seconds]
        line, marker = ("--", "") if name == "floor" else ("-", "o")
        axes.plot(*zip(*known), line, marker=marker, label=name)
    axes.set(xscale="log", yscale="log", xlabel=title, ylabel="seconds")
    axes.set_xticks(list(points), [str(number) for number in points], minor=False)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.legend(frameon=False, fontsize="small")


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    taken: dict[str, dict[int, dict[str, float]]] = {}
    limits = threadpool_limits(arguments.threads, user_api="blas")
    with tempfile.TemporaryDirectory() as name, limits:
        for title, number, make in cases(Path(name)):
            work = make()
            times = take_turns(work, arguments.repeats)
            seconds, needed = medians(times), peaks(work)
            taken.setdefault(title, {})[number] = seconds
            told = ", ".join(
                f"{what} {value:.3f} s {told_spread(times[what])} {needed[what]:.0f} MiB"
                for what, value in seconds.items()
            )
            share = ratio(times, "floor", "ours")
            print(f"{title:20} {number:5d}: {told}; floor's share {share:.2f}", flush=True)
    figure, panels = plt.subplots(1, len(taken), figsize=(4 * len(taken), 3.4))
    for axes, (title, points) in zip(panels, taken.items()):
        draw(axes, title, points)
    figure.tight_layout()
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, dpi=110)
    print(arguments.out)


if __name__ == "__main__":
    main()
