"""Speed of PLS scoring against scikit-learn as Brain-Score uses it, and memory at 100,000 units.

    python benchmarks/brain.py                          # all of it, some minutes
    python benchmarks/brain.py --units 1000 --threads 1
    python benchmarks/brain.py --units 100000           # memory and time of this package alone
    python benchmarks/brain.py --units 1000 --packages OTHERS    # ridge against himalaya's, too

2,560 pictures, 168 neuroids, 25 components, ten splits of 90 to 10 %. scikit-learn is timed on one
split in each turn (fit, predict, Pearson's r for each neuroid) and multiplied up to ten; this
package does all ten, its Gram matrix included. The floor is, once, the Gram matrix of the features'
smaller side and, for each component, its product with a vector of each split. They take turns; told
are medians, half of what lies between the quartiles, the floor's share (its time over that of
each), and, measured apart, the peak of memory beyond the features and responses.
So is ridge regression with a penalty of 1 against himalaya's, where a folder has it; its floor is
the Gram matrix and, for each split, one Cholesky factorisation and solution. End to end, from
photographs: `activations.py`.

    uv pip install --target OTHERS --no-deps himalaya==0.4.11
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.stats
from sklearn.cross_decomposition import PLSRegression
from threadpoolctl import threadpool_limits

import vitreous.brain as brain
from memory import high_water, peaks
from turns import table, take_turns

IMAGES, NEUROIDS, COMPONENTS, RANK = 2560, 168, 25, 200
FLOORS = {1000: 12, 10000: 25}


def make_data(units: int, file: Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rectified features of a decaying spectrum, and noisy responses that depend on them."""
    generator = np.random.default_rng(0)
    latent = generator.standard_normal((IMAGES, RANK)) * np.arange(1, RANK + 1) ** -0.5
    latent = latent.astype(np.float32)
    shape = (IMAGES, units)
    features = np.empty(shape, np.float32)
    if file is not None:
        features = np.lib.format.open_memmap(file, "w+", np.float32, shape)
    for start in range(0, units, 5000):
        stop = min(start + 5000, units)
        mixing = generator.standard_normal((RANK, stop - start), dtype=np.float32)
        noise = generator.standard_normal((IMAGES, stop - start), dtype=np.float32)
        features[:, start:stop] = np.maximum(latent @ mixing + noise, 0)
    signal = latent @ generator.standard_normal((RANK, NEUROIDS))
    responses = signal + signal.std() * generator.standard_normal((IMAGES, NEUROIDS))
    return features, responses, np.arange(IMAGES) % 8


def scikit_learn(features, responses, splits) -> np.ndarray:
    """Score splits as Brain-Score does: r of splits × neuroids."""
    raw = []
    for train, test in splits:
        fitted = PLSRegression(COMPONENTS, scale=False).fit(features[train], responses[train])
        predicted = fitted.predict(features[test])
        raw.append(
            [scipy.stats.pearsonr(responses[test, j], predicted[:, j])[0] for j in range(NEUROIDS)]
        )
    return np.array(raw)


def smaller_side(features: np.ndarray) -> np.ndarray:
    """The Gram matrix of images or of units, whichever are fewer, in float64."""
    wide = features.astype(np.float64)
    wide -= wide.mean(0)
    return wide.T @ wide if wide.shape[1] < len(wide) else wide @ wide.T


def floor_of_pls(features: np.ndarray, splits: int) -> None:
    """A Gram matrix, and a product with a vector for each component and split."""
    matrix = smaller_side(features)
    vectors = np.ones((len(matrix), splits))
    for _ in range(COMPONENTS):
        matrix @ vectors


def floor_of_ridge(features: np.ndarray, splits: int) -> None:
    """A Gram matrix, and a factorisation and solution for each split."""
    matrix = smaller_side(features)
    matrix.flat[:: len(matrix) + 1] += 1.0
    targets = np.ones((len(matrix), NEUROIDS))
    for _ in range(splits):
        scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix), targets)


def show(title: str, work: dict[str, Callable[[], object]], other: str, rounds: int) -> None:
    """Measure and print; the other does a tenth of the work, and its time is told tenfold."""
    times = take_turns(work, rounds)
    times[other] = [10 * taken for taken in times[other]]
    print(title, *table(times, peaks(work)), sep="\n")


def compare(units: int, threads: int, rounds: int) -> None:
    """PLS of both in turns, and by how much they differ."""
    features, responses, groups = make_data(units)
    splits = brain.Splits().draw(IMAGES, groups)
    turn, raw, scores = itertools.count(), {}, []

    def theirs() -> None:
        split = next(turn) % len(splits)
        raw[split] = scikit_learn(features, responses, splits[split : split + 1])[0]

    work: dict[str, Callable[[], object]] = {
        "ours": lambda: scores.append(brain.pls_predictivity(features, responses, groups)),
        "scikit-learn": theirs,
        "floor": lambda: floor_of_pls(features, len(splits)),
    }
    goal = f"wanted: {FLOORS[units]} × ours" if units in FLOORS else "no goal"
    with threadpool_limits(threads, user_api="blas"):
        title = f"PLS, {units:,} units, {threads} BLAS thread{'s' * (threads > 1)} ({goal})"
        show(title, work, "scikit-learn", rounds)
        exact = brain.pls_predictivity(features, responses, groups, tolerance=None).score
    first, own = np.array(list(raw.values())), scores[-1].raw[list(raw)]
    difference = abs(np.median(first, axis=1) - np.median(own, axis=1)).max()
    print(
        f"  score differs by {difference:.1e}, largest r by {np.abs(first - own).max():.1e}; "
        f"solved to machine precision the score differs by {abs(exact - scores[-1].score):.1e}",
        flush=True,
    )


def himalaya_ridge(features, responses, splits) -> np.ndarray:
    """Ridge regression with a penalty of 1 by himalaya: r of splits × neuroids."""
    from himalaya.kernel_ridge import KernelRidge
    from himalaya.ridge import Ridge

    raw, features = [], features.astype(np.float64)
    make = KernelRidge if features.shape[1] > IMAGES else Ridge  # what it advises
    for train, test in splits:
        mean = responses[train].mean(0)
        center = features[train].mean(0)
        fitted = make(alpha=1.0).fit(features[train] - center, responses[train] - mean)
        predicted = fitted.predict(features[test] - center)
        raw.append(
            [scipy.stats.pearsonr(responses[test, j], predicted[:, j])[0] for j in range(NEUROIDS)]
        )
    return np.array(raw)


def compare_ridge(units: int, threads: int, rounds: int) -> None:
    """Ridge regression of both in turns."""
    if importlib.util.find_spec("himalaya") is None:
        print("himalaya: left out, --packages names no folder that has it")
        return
    features, responses, groups = make_data(units)
    splits = brain.Splits().draw(IMAGES, groups)
    theirs = partial(himalaya_ridge, features, responses, splits[:1])
    ours = partial(brain.ridge_predictivity, features, responses, groups)
    floor = partial(floor_of_ridge, features, len(splits))
    with threadpool_limits(threads, user_api="blas"):
        difference = np.abs(theirs() - ours().raw[:1]).max()
        work = {"ours": ours, "himalaya": theirs, "floor": floor}
        show(f"ridge regression, {units:,} units", work, "himalaya", rounds)
    print(f"  largest r differs by {difference:.1e}", flush=True)


def of_file(units: int, threads: int) -> None:
    """Score features in a file in a process of its own; report its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        _, responses, groups = make_data(units, file)
        np.savez(Path(folder) / "responses.npz", responses=responses, groups=groups)
        command = [sys.executable, __file__, "--score", folder, "--threads", str(threads)]
        subprocess.run(command, check=True)


def score_file(folder: Path, threads: int) -> None:
    """Score the features of a folder and print time and peak memory of this process."""
    features = np.load(folder / "features.npy", mmap_mode="r")
    given = np.load(folder / "responses.npz")
    started = time.perf_counter()
    score = brain.pls_predictivity(features, given["responses"], given["groups"], threads=threads)
    seconds, peak = time.perf_counter() - started, high_water() / 1024
    print(
        f"{features.shape[1]:,} units, {threads} BLAS thread{'s' * (threads > 1)}: peak memory "
        f"{peak:.2f} GiB (limit 4, the mapped file's pages included), {seconds:.0f} s, score "
        f"{score.score:.3f}",
        flush=True,
    )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--packages", type=Path, help="folder that himalaya was installed to")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.score:
        score_file(arguments.score, arguments.threads[0])
        return
    if arguments.packages:
        sys.path.append(str(arguments.packages))
    for units in arguments.units:
        if units > 20000:
            of_file(units, max(arguments.threads))
            continue
        for threads in arguments.threads:
            rounds = arguments.rounds if units <= 2000 else 1
            compare(units, threads, rounds)
            compare_ridge(units, threads, rounds)


if __name__ == "__main__":
    main()
