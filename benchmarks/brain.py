"""Speed of PLS scoring against scikit-learn as Brain-Score uses it, and memory at 100,000 units.

    python benchmarks/brain.py                          # all of it, some minutes
    python benchmarks/brain.py --units 1000 --threads 1
    python benchmarks/brain.py --units 100000           # memory and time of this package alone
    python benchmarks/brain.py --units 1000 --packages OTHERS    # ridge against himalaya's, too

2,560 pictures, 168 neuroids, 25 components, ten splits of 90 to 10 %. scikit-learn is timed on the
first splits only (fit, predict, Pearson's r for each neuroid) and multiplied up to ten; this
package does all ten, its Gram matrix included. The two are interleaved and the medians compared.
So is ridge regression with a penalty of 1 against himalaya's, where a folder has it:

    uv pip install --target OTHERS --no-deps himalaya==0.4.11
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.stats
from sklearn.cross_decomposition import PLSRegression
from threadpoolctl import threadpool_limits

import vitreous.brain as brain
from turns import ratio, take_turns

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


def timed(call):
    """Run and return (seconds, result)."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def compare(units: int, threads: int, rounds: int) -> None:
    """Time both, interleaved."""
    features, responses, groups = make_data(units)
    splits = brain.Splits().draw(IMAGES, groups)
    theirs, ours, raw, exact = [], [], [], 0.0
    with threadpool_limits(threads, user_api="blas"):
        for round_ in range(rounds):
            seconds, rows = timed(
                lambda r=round_: scikit_learn(features, responses, splits[r : r + 1])
            )
            theirs.append(10 * seconds)
            raw.append(rows)
            for _ in range(2):
                seconds, score = timed(lambda: brain.pls_predictivity(features, responses, groups))
                ours.append(seconds)
        exact = brain.pls_predictivity(features, responses, groups, tolerance=None).score
    first = np.concatenate(raw)
    difference = abs(np.median(first, axis=1) - np.median(score.raw[:rounds], axis=1)).max()
    ratio = np.median(theirs) / np.median(ours)
    print(
        f"{units:,} units, {threads} BLAS thread{'s' * (threads > 1)}: {ratio:.0f}× "
        f"(floor {FLOORS.get(units, '–')}×; scikit-learn {np.median(theirs):.1f} s, "
        f"here {np.median(ours):.2f} s); score differs by {difference:.1e}, largest r by "
        f"{np.abs(first - score.raw[:rounds]).max():.1e}; solved to machine precision the score "
        f"differs by {abs(exact - score.score):.1e}",
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
    """Time ridge regression of both, interleaved."""
    if importlib.util.find_spec("himalaya") is None:
        print("himalaya: left out, --packages names no folder that has it")
        return
    features, responses, groups = make_data(units)
    splits = brain.Splits().draw(IMAGES, groups)
    work = {
        "himalaya": lambda: himalaya_ridge(features, responses, splits[:1]),
        "ours": lambda: brain.ridge_predictivity(features, responses, groups),
    }
    with threadpool_limits(threads, user_api="blas"):
        difference = np.abs(work["himalaya"]() - work["ours"]().raw[:1]).max()
        times = take_turns(work, rounds)
    print(
        f"ridge, {units:,} units: {10 * ratio(times, 'himalaya', 'ours'):.1f}× (himalaya "
        f"{10 * np.median(times['himalaya']):.2f} s, here {np.median(times['ours']):.2f} s); "
        f"largest r differs by {difference:.1e}",
        flush=True,
    )


def memory(units: int, threads: int) -> None:
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
    seconds, score = timed(
        lambda: brain.pls_predictivity(
            features, given["responses"], given["groups"], threads=threads
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
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
            memory(units, max(arguments.threads))
            continue
        for threads in arguments.threads:
            rounds = arguments.rounds if units <= 2000 else 1
            compare(units, threads, rounds)
            compare_ridge(units, threads, rounds)


if __name__ == "__main__":
    main()
