"""Training's input against timm's training loader, on the same work: a random crop and a flip.

    python benchmarks/input_training.py --data FOLDER_OF_PICTURES
    python benchmarks/input_training.py --data FOLDER_OF_PICTURES --size 2000 1500

Alternatives take turns within one run, by wall-clock with as many workers each; then, in this
process alone, the processor time of one view, which a busy machine changes less. Each reads the
same files to float batches (B, 3, 224, 224) on the CPU: ours without masks, timm's with
`create_loader(is_training=True)`, bilinear, flips by a half, and neither colour jitter nor
normalization. timm's loader is timed as it is and with its prefetcher, which hands over bytes too.
Without --data, pictures are generated; with --size, they are resized to that size first: reduced
decoding gains where a crop has at least twice the pixels that it is resized to; `--only pixels
--crop 64` tells how far its views are from exact ones. Floor: 1.3 x timm.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import timm.data
import torch
from PIL import Image
from torch import Tensor

from evaluation import lay_out
from turns import medians, ratio, spread, take_turns
from vitreous.allocator import keep_freed_memory
from vitreous.data.dataset import Dataset
from vitreous.data.loading import TransformedDataset, load_batches
from vitreous.data.stores import FileImages
from vitreous.data.transforms import compose
from vitreous.data.transforms.geometry import Flip, RandomResizedCrop

SIZE, BATCH = 224, 32
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of pictures; the first are taken")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, nargs=2, help="resize the pictures to this size first")
    parser.add_argument("--crop", type=int, default=SIZE, help="pixels of a view, for `pixels`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("turns", "views", "pixels"))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        lay_out(folder, arguments.data, arguments.images, tuple(arguments.size or (500, 375)))
        if arguments.size and arguments.data:
            resize(folder, tuple(arguments.size))
        if arguments.only in (None, "turns"):
            turns(folder, arguments.rounds, arguments.workers)
        if arguments.only in (None, "views"):
            views(folder, arguments.rounds)
        if arguments.only == "pixels":
            pixels(folder, arguments.crop)


def resize(folder: Path, size: tuple[int, int]) -> None:
    """Put resized pictures in the place of the links."""
    for file in folder.rglob("*.jpg"):
        with Image.open(file) as image:
            resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        file.unlink()
        resized.save(file, quality=90)


def own(folder: Path, decoding: str, size: int = SIZE) -> TransformedDataset:
    """Our views, as a recipe with `transforms.decoding` has them."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.jpg"))
    dataset = Dataset(FileImages(folder, names), np.zeros(len(names), np.int64))
    view = compose([RandomResizedCrop(size), Flip()])
    reduction = view.reduction if decoding == "reduced" else None
    return TransformedDataset(dataset, view.as_read, 0, reduction)


def timms(folder: Path, workers: int, *, prefetcher: bool) -> Iterable[tuple[Tensor, Tensor]]:
    """timm's loader of the same work."""
    return timm.data.create_loader(
        timm.data.create_dataset("", root=str(folder)),
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        use_prefetcher=prefetcher,
        color_jitter=0.0,
        interpolation="bilinear",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        num_workers=workers,
        pin_memory=False,
        device=CPU,
        persistent_workers=False,
    )


def epoch(data: TransformedDataset, workers: int) -> int:
    """Read all pictures once; returns how many came, in whole batches as timm's loader has them."""
    whole = len(data) // BATCH * BATCH
    batches = [list(range(start, start + BATCH)) for start in range(0, whole, BATCH)]
    return sum(len(batch.to(CPU).images) for batch in load_batches(data, batches, 0, workers))


def turns(folder: Path, rounds: int, workers: int) -> None:
    """Images a second of all alternatives, with workers."""
    data = {decoding: own(folder, decoding) for decoding in ("exact", "reduced")}
    loaders = {p: timms(folder, workers, prefetcher=p) for p in (False, True)}
    count = epoch(data["exact"], 0)

    def theirs(prefetcher: bool) -> None:
        found = sum(len(images) for images, _ in loaders[prefetcher])
        if found != count:
            raise SystemExit(f"timm's loader gave {found} images, ours {count}")

    times = take_turns(
        {
            "exact": lambda: epoch(data["exact"], workers),
            "reduced": lambda: epoch(data["reduced"], workers),
            "timm": lambda: theirs(False),
            "timm with its prefetcher": lambda: theirs(True),
        },
        rounds,
    )
    print(f"{count} images an epoch, {workers} workers each")
    for name, seconds in medians(times).items():
        print(f"{name}: {count / seconds:.1f} images/s ± {spread(times[name]):.0%}")
    for ours in ("exact", "reduced"):
        for other in ("timm", "timm with its prefetcher"):
            print(f"{ours} against {other}: {ratio(times, other, ours):.2f} x (floor 1.3)")


def pixels(folder: Path, size: int) -> None:
    """How far reduced views are from exact ones, of those that differ."""
    exact, reduced = own(folder, "exact", size), own(folder, "reduced", size)
    found = []
    for index in range(len(exact)):
        one, other = (data[0, index]["images"].float() for data in (exact, reduced))
        if not torch.equal(one, other):
            difference = (one - other).abs()
            found.append((difference.mean().item(), difference.max().item()))
    print(f"{len(found)} of {len(exact)} views are of reduced pictures")
    if found:
        means, largest = np.array(found).T
        high = np.quantile(means, 0.95)
        print(f"of 255: mean {means.mean():.2f}, in 95 % of the views at most {high:.2f}")
        print(f"largest difference of one value: {largest.max():.0f}")


def views(folder: Path, rounds: int) -> None:
    """Processor time of one view in this process, all alternatives in turn picture by picture."""
    exact, reduced = own(folder, "exact"), own(folder, "reduced")
    transform = timm.data.create_transform(
        (3, SIZE, SIZE), is_training=True, color_jitter=0.0, interpolation="bilinear"
    )
    files = timm.data.create_dataset("", root=str(folder), transform=transform)
    work: dict[str, Callable[[int, int], object]] = {
        "exact": lambda turn, index: exact[turn, index],
        "reduced": lambda turn, index: reduced[turn, index],
        "timm": lambda turn, index: files[index],
    }
    taken = dict.fromkeys(work, 0.0)
    for turn in range(rounds + 1):
        for index in range(len(exact)):
            for name, call in work.items():
                started = time.process_time()
                call(turn, index)
                if turn:
                    taken[name] += time.process_time() - started
    for name, seconds in taken.items():
        each = seconds / rounds / len(exact) * 1000
        print(f"{name}: {each:.2f} ms of the processor a view ({taken['timm'] / seconds:.2f} x)")


if __name__ == "__main__":
    main()
