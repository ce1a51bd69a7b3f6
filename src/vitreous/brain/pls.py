"""PLS regression of all splits at once, from the Gram matrix.

PLS2 with unscaled features (`PLSRegression(scale=False)`, NIPALS) finds in turn the weight
w = XᵀY q, q the leading eigenvector of YᵀXXᵀY, the score t = X w made orthogonal to the earlier
ones, and deflates Y by t (Dayal and MacGregor 1997, improved kernel PLS: deflating one of the two
matrices is enough). Written with K = XXᵀ only:

    u = Y q,   t = (I − T Tᵀ) K u / |…|,   c = Yᵀ t,   Y ← Y − t cᵀ

and YᵀKY follows by a symmetric rank-two update. A component costs two products with K, shared by
all splits. q comes from that neuroids × neuroids matrix alone: exactly, or by the power iteration
with scikit-learn's start and stopping rule, which is what Brain-Score's numbers rest on (the two
differ by 1e-5 to 1e-4 in a score). A held-out image gets its score by the same operations on its
row of K; the prediction is mean + T C, for every number of components at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vitreous.brain.backend import Array, Backend, NumpyBackend
from vitreous.brain.gram import Kernel
from vitreous.brain.splits import Split

# A score shorter than this share of the longest possible one is rounding.
EXHAUSTED = 1e-12
EPSILON = float(np.finfo(np.float64).eps)
STATE_BYTES = 2**30
# scikit-learn's defaults for PLSRegression, which Brain-Score does not change.
TOLERANCE = 1e-6
ITERATIONS = 500


def pls_predictions(
    kernel: Kernel | np.ndarray,
    responses: np.ndarray,
    splits: Sequence[Split],
    counts: Sequence[int] = (25,),
    backend: Backend | None = None,
    tolerance: float | None = TOLERANCE,
) -> list[dict[int, np.ndarray]]:
    """Predict the held-out responses of every split, for several numbers of components.

    Where the training features have fewer dimensions than components, the remaining components
    add nothing (scikit-learn extracts them from rounding errors).

    Args:
        kernel: The layer's `Kernel`, or its Gram matrix (images × images).
        responses: images × neuroids, finite.
        splits: (train, test) indices.
        counts: Numbers of components.
        backend: Where to compute; NumPy by default.
        tolerance: Squared change of the weights at which the search for a component stops.
            1e-6 is scikit-learn's and so Brain-Score's; None solves to machine precision.

    Returns:
        For each split, number of components → predictions (held-out images × neuroids).
    """
    backend = backend or NumpyBackend()
    responses = np.asarray(responses, dtype=np.float64)
    targets, rotation = _fewer_targets(responses)
    size = 8 * (targets.shape[0] * 2 * max(counts) + 4 * targets.shape[1] ** 2)
    together = max(1, STATE_BYTES // size)
    given = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    own = Kernel(backend.array(given.matrix), given.factored)
    predictions: list[dict[int, np.ndarray]] = []
    for start in range(0, len(splits), together):
        some = list(splits[start : start + together])
        begin = _start_vectors(responses, some, rotation)
        state = _fit(own, targets, some, max(counts), backend, begin, tolerance)
        predictions += _predict(state, some, counts, rotation, backend)
    return predictions


def _fewer_targets(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Rotate more neuroids than images to as many axes as images; predictions are the same."""
    if responses.shape[1] <= responses.shape[0]:
        return responses, None
    left, values, rotation = np.linalg.svd(responses, full_matrices=False)
    return left * values, rotation


@dataclasses.dataclass
class _State:
    """Arrays of all splits: first axis S; n images, m neuroids, A components."""

    scores: Array  # S × n × A, for training and held-out images
    loadings: Array  # S × A × m
    means: Array  # S × m, of the training responses


def _fit(
    kernel: Kernel,
    responses: np.ndarray,
    splits: list[Split],
    components: int,
    backend: Backend,
    begin: np.ndarray,
    tolerance: float | None,
) -> _State:
    """Extract components for all splits together; the formulas are in the module's docstring.

    `begin` (S × m) holds the vector from which each split's search for a component starts.
    """
    n, m = responses.shape
    train = np.zeros((len(splits), n))
    for row, (index, _) in enumerate(splits):
        train[row, index] = 1.0
    mask, y = backend.array(train), backend.array(responses)
    share = mask / mask.sum(1)[:, None]
    means = share @ y
    crossed = _crossed(kernel, y, mask, means, backend)
    total = kernel.trace()
    scores = backend.zeros((len(splits), n, components))
    trained = backend.zeros((len(splits), n, components))
    loadings = backend.zeros((len(splits), components, m))
    start = backend.array(begin[:, :, None])
    for a in range(components):
        old, known = trained[:, :, :a], loadings[:, :a]
        q = _leading(crossed, start, tolerance, backend)
        seen = _center((y @ q[:, :, 0].mT).mT, mask, share)
        u = seen - (old @ (known @ q))[:, :, 0]
        z = kernel.times(u.mT).mT
        for _ in range(2):  # twice is enough (Giraud, Langou, Rozložník 2005)
            z = z - (share * z).sum(1)[:, None]
            z = z - (scores[:, :, :a] @ (old.mT @ z[:, :, None]))[:, :, 0]
        norm = _norm(mask * z)
        alive = norm > EXHAUSTED * total * _norm(seen)
        t = z * (alive / (norm + ~alive))[:, None]
        tm = mask * t
        kt = _center(kernel.times(tm.mT).mT, mask, share)
        c = tm @ y
        v = kt @ y - (known.mT @ (old.mT @ kt[:, :, None]))[:, :, 0]
        outer = c[:, :, None] * (v - 0.5 * (tm * kt).sum(1)[:, None] * c)[:, None, :]
        crossed = crossed - outer - outer.mT
        scores[:, :, a], trained[:, :, a], loadings[:, a] = t, tm, c
    return _State(scores, loadings, means)


def _center(rows: Array, mask: Array, share: Array) -> Array:
    """Subtract the training mean of each split's row; held-out entries become zero."""
    return mask * (rows - (share * rows).sum(1)[:, None])


def _start_vectors(
    responses: np.ndarray, splits: list[Split], rotation: np.ndarray | None
) -> np.ndarray:
    """Where scikit-learn starts: at the first neuroid that varies in training (S × m).

    Among rotated responses that neuroid is a column of the rotation.
    """
    axes = np.eye(responses.shape[1]) if rotation is None else rotation.T
    return axes[[_first_varying(responses[train]) for train, _ in splits]]


def _first_varying(responses: np.ndarray) -> int:
    """Number of the first neuroid that is not constant; 0 where all are."""
    spread, size = np.ptp(responses, axis=0), np.abs(responses).max(axis=0)
    varying = np.flatnonzero(spread > EPSILON * np.maximum(len(responses) * size, 1.0))
    return int(varying[0]) if len(varying) else 0


def _leading(crossed: Array, start: Array, tolerance: float | None, backend: Backend) -> Array:
    """Leading eigenvectors (S × m × 1) of YᵀKY, exactly or by scikit-learn's power iteration."""
    if tolerance is None:
        return backend.leading_vectors(crossed)[:, :, None]
    q = start
    pushed = crossed @ q
    square = (q * pushed).sum(1)[:, :, None]
    running = square > 0
    for _ in range(ITERATIONS - 1):
        if not bool(running.any()):
            break
        longest = (pushed * pushed).sum(1)[:, :, None] ** 0.5
        following = pushed / (longest + ~(longest > 0))
        new_pushed = crossed @ following
        new_square = (following * new_pushed).sum(1)[:, :, None]
        scale = abs(square * new_square) ** 0.5
        cosine = (following * pushed).sum(1)[:, :, None] / (scale + ~(scale > 0))
        q = backend.choose(running, following, q)
        pushed = backend.choose(running, new_pushed, pushed)
        square = backend.choose(running, new_square, square)
        running = running & (2.0 - 2.0 * cosine >= tolerance) & (new_square > 0)
    return q


def _crossed(kernel: Kernel, y: Array, mask: Array, means: Array, backend: Backend) -> Array:
    """YᵀKY of each split's centred training responses, by taking the held-out part off the whole.

    With Z the responses (zero where held out), e the held-out rows, 1 the training mask and μ the
    training mean: (Z − 1μᵀ)ᵀ K (Z − 1μᵀ), of which only the terms with e and 1 differ by split.
    """
    pushed = kernel.times(y)
    whole = y.mT @ pushed
    sums = kernel.times(mask.mT)
    crossed = []
    for row in range(mask.shape[0]):
        test = backend.where(mask[row] == 0)
        held, mean, ones = y[test], means[row], sums[:, row]
        edge = pushed[test].mT @ held
        matrix = whole - edge - edge.mT + held.mT @ (kernel.block(test) @ held)
        shift = (ones @ y - ones[test] @ held)[:, None] * mean[None, :]
        matrix = matrix - shift - shift.mT + (mask[row] @ ones) * mean[:, None] * mean[None, :]
        crossed.append((matrix + matrix.mT) / 2)
    return backend.stack(crossed)


def _predict(
    state: _State,
    splits: list[Split],
    counts: Sequence[int],
    rotation: np.ndarray | None,
    backend: Backend,
) -> list[dict[int, np.ndarray]]:
    scores, loadings = backend.numpy(state.scores), backend.numpy(state.loadings)
    means = backend.numpy(state.means)
    predictions = []
    for row, (_, test) in enumerate(splits):
        by_count = {}
        for k in counts:
            values = means[row] + scores[row][test, :k] @ loadings[row][:k]
            by_count[k] = values if rotation is None else values @ rotation
        predictions.append(by_count)
    return predictions


def _norm(rows: Array) -> Array:
    return (rows * rows).sum(1) ** 0.5
