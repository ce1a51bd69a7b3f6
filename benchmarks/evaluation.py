"""Input pipeline against timm's loader, the whole against the bare forward pass, and memory.

    python benchmarks/evaluation.py --data FOLDER_OF_PICTURES
    python benchmarks/evaluation.py --part memory

Alternatives take turns within one run and medians are compared, by wall-clock, each with half of
what lies between the quartiles, with workers (the whole with as many as the command takes by
itself; where that is none, turns are of one batch, each of ours between two of the bare pass, since
a machine's speed drifts by more within a minute than what is measured). Equal work means: both
input pipelines read the same files to the same float batches; the bare forward pass is that which
the loop makes, on batches of the same size that are in memory already, with the last block
computing only the token that the head reads (it is slower by some percent where each is given the
whole block: `--whole-block` times that too). The floor of the input is Pillow's decoding, resizing
and cropping alone, shared by the workers without loss; that of the whole the bare pass. Memory is
measured apart, the peak beyond what was there, without workers, whose own memory would be missed.
Reduced decoding gains where photographs are at least twice as large as what they are resized to:
`--part input --size 2000 1500`. Goals: input >= 1 x timm; whole >= 0.95 x the bare forward pass;
memory at 20,000 pictures about that at 1,000. Without --data, pictures are generated.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm.data
import torch
from PIL import Image

from memory import high_water, peaks
from turns import medians, ratio, spread, table, take_turns, told_spread
from vitreous.allocator import keep_freed_memory
from vitreous.device import resolve_workers
from vitreous.evaluation.evaluators.accuracy import predict, predictions
from vitreous.evaluation.loading import batches, images_on, view_of
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.models import Preprocessing, load_model

SIZE, BATCH = 224, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of pictures, of which the first are taken"
    )
    parser.add_argument("--part", choices=("input", "whole", "memory", "all"), default="all")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, nargs=2, default=(500, 375), help="of generated ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--whole-block", action="store_true")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    if arguments.memory_of:
        print(peak_of(arguments.memory_of))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if arguments.part in ("input", "whole", "all"):
            lay_out(root / "set", arguments.data, arguments.images, tuple(arguments.size))
        if arguments.part in ("input", "all"):
            input_pipeline(root / "set", arguments.rounds, arguments.workers)
        if arguments.part in ("whole", "all"):
            workers = resolve_workers("auto", torch.device("cpu"))  # as the command has it
            whole(root / "set", arguments.rounds, workers, spared=True)
            if arguments.whole_block:
                whole(root / "set", arguments.rounds, workers, spared=False)
        if arguments.part in ("memory", "all"):
            memory(root)


def lay_out(folder: Path, data: Path | None, count: int, size: tuple[int, ...]) -> None:
    """Put the pictures into one class folder, which both loaders read."""
    place = folder / "a"
    place.mkdir(parents=True)
    if data is not None:
        files = [f for f in sorted(data.rglob("*")) if f.suffix.lower() in (".jpg", ".jpeg")]
        for i, file in enumerate(files[:count]):
            (place / f"{i:05d}.jpg").symlink_to(file.resolve())
        return
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = random.integers(0, 255, (24, 32, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        image.save(place / f"{i:05d}.jpg", quality=90)


def own_set(folder: Path, classes: int) -> TestSet:
    table = folder.parent / "map.json"
    table.write_text('{"a": 0}')
    (found,) = read_set("folder", folder, num_classes=classes, class_map=table)
    return found


def compare(
    title: str,
    work: dict[str, Callable[[], int]],
    alone: dict[str, Callable[[], int]],
    rounds: int,
    goal: str,
    shared: int = 1,
) -> None:
    """Time alternatives in turns; print images a second, spread, memory and the paired ratio.

    Args:
        title: What is compared.
        work: `ours`, one other, and the floor; each gives how many images it had.
        alone: The same without workers, for memory.
        rounds: Turns.
        goal: Of ours over the other.
        shared: Among how many processes the floor is shared.
    """
    images = work["ours"]()
    times = take_turns(work, rounds)
    times["floor"] = [seconds / shared for seconds in times["floor"]]
    needed = peaks(alone)
    other = next(name for name in work if name not in ("ours", "floor"))
    print(f"{title}: ratio {ratio(times, other, 'ours'):.3f} (goal {goal})")
    rates = {n: f"{images / t:7.1f} images/s" for n, t in medians(times).items()}
    print(*table(times, needed, notes=rates), sep="\n", flush=True)


def compare_batches(
    title: str,
    ours: Callable[[], Iterator[int]],
    other: Callable[[], None],
    rounds: int,
    goal: str,
) -> None:
    """Time batches of ours, each between two of the other's, and print as `compare` does."""
    images = sum(ours())
    other()
    own, others = [], []
    for _ in range(rounds):
        mine = ours()
        before = seconds(other)
        while True:
            started = time.perf_counter()
            if not next(mine, 0):
                break
            own.append(time.perf_counter() - started)
            after = seconds(other)
            others.append((before + after) / 2)
            before = after
    ratios = [b / a for a, b in zip(own, others)]
    first, second = (images * rounds / sum(taken) for taken in (own, others))
    print(
        f"{title}, batch by batch: {first:.1f} against {second:.1f} images/s, "
        f"ratio {statistics.median(ratios):.3f} ± {spread(ratios):.0%} (goal {goal})"
    )
    needed = peaks({"ours": lambda: sum(ours()), "other": other})
    spreads = [told_spread(taken) for taken in (own, others)]
    print(
        f"  a batch: ours {spreads[0]}, {needed['ours']:.0f} MiB; the bare pass {spreads[1]}, "
        f"{needed['other']:.0f} MiB"
    )


def seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def decoded(folder: Path, reduced: bool) -> int:
    """Pillow's part alone of all images."""
    files = sorted(folder.rglob("*.jpg"))
    short = round(SIZE / 0.875)
    for file in files:
        with Image.open(file) as image:
            if reduced:
                image.draft("RGB", (2 * short, 2 * short))
            scale = short / min(image.size)
            width, height = (round(side * scale) for side in image.size)
            left, top = (width - SIZE) // 2, (height - SIZE) // 2
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)))
    return len(files)


def input_pipeline(folder: Path, rounds: int, workers: int) -> None:
    classifier = load_model("vit_small_patch16_224", pretrained=False)
    classifier.preprocessing = type(classifier.preprocessing)((SIZE, SIZE), 0.875, "bicubic")
    test_set = own_set(folder, 1000)
    every = np.arange(len(test_set))
    exact = classifier.preprocessing
    reduced = dataclasses.replace(exact, decoding="reduced")

    def ours(preprocessing: Preprocessing, workers: int) -> int:
        seen, view = 0, view_of(test_set, preprocessing)
        for batch in batches(test_set.dataset, view, every, batch_size=BATCH, workers=workers):
            seen += len(images_on(batch, torch.device("cpu")))
        return seen

    def timms(prefetcher: bool, workers: int) -> Callable[[], int]:
        loader = timm.data.create_loader(
            timm.data.create_dataset("", root=str(folder)),
            (3, SIZE, SIZE),
            BATCH,
            use_prefetcher=prefetcher,
            interpolation="bicubic",
            crop_pct=0.875,
            num_workers=workers,
            pin_memory=False,
            device=torch.device("cpu"),
            persistent_workers=False,
        )
        return lambda: sum(len(images) for images, _ in loader)

    def work(
        preprocessing: Preprocessing, prefetcher: bool, workers: int
    ) -> dict[str, Callable[[], int]]:
        return {
            "ours": lambda: ours(preprocessing, workers),
            "timm": timms(prefetcher, workers),
            "floor": lambda: decoded(folder, preprocessing is reduced),
        }

    title = f"input pipeline ({workers} workers) against timm's loader"
    for what, preprocessing, prefetcher, goal in (
        (title, exact, False, "1.0"),
        (f"{title}, reduced decoding", reduced, False, "1.3"),
        (f"{title} with its prefetcher", exact, True, "1.0"),
    ):
        both = [work(preprocessing, prefetcher, number) for number in (workers, 0)]
        compare(what, *both, rounds, goal, max(1, workers))


def whole(folder: Path, rounds: int, workers: int, *, spared: bool) -> None:
    classifier = load_model("vit_small_patch16_224", pretrained=False)
    test_set = own_set(folder, 1000)
    chosen = np.arange(len(test_set) // BATCH * BATCH)
    batch = torch.rand(BATCH, 3, SIZE, SIZE)
    streaming = StreamSettings(batch_size=BATCH, workers=workers, progress=False)

    def normalize(images: torch.Tensor) -> torch.Tensor:
        return (images - classifier.mean) / classifier.std

    def ours() -> Iterator[int]:
        for rows, _ in predict(classifier, test_set, chosen, streaming=streaming):
            yield len(rows)

    def bare() -> None:
        with torch.inference_mode():
            if spared:
                classifier(batch)
            else:
                classifier.net(normalize(batch))

    def bare_whole() -> int:
        for _ in range(0, len(chosen), BATCH):
            bare()
        return len(chosen)

    pass_of = "its bare forward pass" if spared else "timm's forward pass, last block whole"
    title = f"whole evaluation of a ViT-S ({workers} workers) against {pass_of}"
    goal = "0.95" if spared else "none: unequal work"
    if workers:  # they read on while the other has its turn
        work = {"ours": lambda: sum(ours()), "bare": bare_whole, "floor": bare_whole}
        compare(title, work, {"ours": work["ours"], "bare": bare_whole}, rounds, goal)
    else:
        compare_batches(title, ours, bare, rounds, goal)


def memory(root: Path) -> None:
    """Peak memory of a fresh process that evaluates 1,000 and 20,000 pictures."""
    peaks = {}
    for count in (1_000, 20_000):
        place = root / f"m{count}" / "set" / "a"
        place.mkdir(parents=True)
        random = np.random.default_rng(0)
        for i in range(count):
            pixels = random.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"picture-{i:06d}.png", compress_level=0)
        command = [sys.executable, __file__, "--memory-of", str(place.parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = float(done.stdout.split()[-1])
    growth = peaks[20_000] - peaks[1_000]
    print(
        f"peak memory: {peaks[1_000]:.0f} MiB at 1,000 pictures, {peaks[20_000]:.0f} MiB at "
        f"20,000 ({growth:+.1f} MiB, {growth * 1024**2 / 19_000:.0f} bytes a picture more)"
    )


def peak_of(folder: Path) -> float:
    """Evaluate a folder with a tiny ViT; returns this process's peak memory in MiB."""
    classifier = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=10,
        image_size=32,
        patch_size=16,
        embed_dim=24,
        depth=1,
        num_heads=2,
    )
    streaming = StreamSettings(BATCH, 0, progress=False)
    predictions(classifier, own_set(folder, 10), folder.parent / "rows", streaming=streaming)
    return high_water()


if __name__ == "__main__":
    main()
