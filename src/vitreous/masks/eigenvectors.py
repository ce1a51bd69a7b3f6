"""The second eigenvector of the normalised cut, by partial solvers, on CPU or GPU.

`arpack` is scipy's, one image after the other on the CPU; `lanczos` is in torch and solves a
batch at once where the features are; `dense` finds all eigenvectors and is there to compare with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import VitreousError, require
from vitreous.registry import Registry

Solver = Callable[[Tensor], Tensor]
SOLVERS: Registry[Solver] = Registry("eigenvector solver")
STEPS, TOLERANCE = 32, 1e-12


def best_solver(device: torch.device) -> str:
    """The solver that serves a device: `arpack` on the CPU, else `lanczos`."""
    return "arpack" if device.type == "cpu" else "lanczos"


def second_eigenvectors(matrices: Tensor, solver: str | None = None) -> Tensor:
    """Second smallest generalised eigenvectors of (D − A) x = λ D x.

    With z = D^½ x it is the eigenvector of D^-½ A D^-½ with the second largest eigenvalue. The
    largest is known to be 1 with z = D^½ 1, so it is taken out and one pair is left to find.

    Args:
        matrices: (B, N, N) float64, symmetric and positive.
        solver: A name in `SOLVERS`; chosen by `best_solver` where not given.

    Returns:
        (B, N) float64 with x' D x = 1, on the same device; the signs are arbitrary. Zeros where
        every patch is joined to every other, so that no cut is better than another.

    Raises:
        VitreousError: If there are fewer than 4 patches.
    """
    count = matrices.shape[1]
    if count < 4:
        raise VitreousError(f"found {count} patches, expected 4 or more; use larger pictures")
    find = SOLVERS[solver or best_solver(matrices.device)]
    root = matrices.sum(2).sqrt()
    first = F.normalize(root, dim=1)
    scaled = matrices / root[:, :, None] / root[:, None] - first[:, :, None] * first[:, None]
    cut = scaled.abs().amax((1, 2)) >= 1e-9 / count
    vectors = torch.zeros_like(root)
    if cut.any():
        vectors[cut] = find(scaled[cut])
    return vectors / root


@SOLVERS.register("lanczos")
def lanczos(matrices: Tensor) -> Tensor:
    """Lanczos iteration of a batch, every new vector made orthogonal to all before it.

    It ends when the largest Ritz pair of each matrix has a residual below 1e-12 (looked at every
    32 steps), at the latest after N steps, when the basis is complete.

    Args:
        matrices: (B, N, N) float64, symmetric, with a positive eigenvalue.

    Returns:
        (B, N) float64, unit eigenvectors of the largest eigenvalues.
    """
    batch, count = matrices.shape[:2]
    vector = start(count).to(matrices.device).expand(batch, count)
    basis = matrices.new_zeros(batch, 0, count)
    inner, outer = matrices.new_zeros(batch, 0), matrices.new_zeros(batch, 0)
    while True:
        steps = min(STEPS, count - basis.shape[1])
        done = basis.shape[1]
        basis = F.pad(basis, (0, 0, 0, steps))
        inner, outer = F.pad(inner, (0, steps)), F.pad(outer, (0, steps))
        for step in range(done, done + steps):
            basis[:, step] = vector
            image = _times(matrices, vector)
            inner[:, step] = (image * vector).sum(1)
            known = basis[:, : step + 1]
            for _ in range(2):  # once leaves rounding's part behind
                image = image - _times(known.mT, _times(known, image))
            length = image.norm(dim=1)
            # What is left of an exhausted subspace is rounding: zeros add nothing to the basis.
            length = torch.where(length > 1e-14, length, 0)
            outer[:, step] = length
            vector = image / torch.where(length > 0, length, torch.inf)[:, None]
        between = torch.diag_embed(outer[:, :-1], 1)
        _, small = torch.linalg.eigh(torch.diag_embed(inner) + between + between.mT)
        best = small[:, :, -1]
        residual = outer[:, -1] * best[:, -1].abs()
        if basis.shape[1] == count or bool((residual < TOLERANCE).all()):
            return F.normalize(_times(basis.mT, best), dim=1)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices (B, M, N) times vectors (B, N): (B, M)."""
    return torch.bmm(matrices, vectors[:, :, None])[:, :, 0]


@SOLVERS.register("arpack")
def arpack(matrices: Tensor) -> Tensor:
    """The same iteration in scipy, on the CPU wherever the matrices are."""
    sparse = require("scipy.sparse.linalg", "masks")
    found = []
    for matrix in matrices.cpu().numpy():
        try:
            _, vectors = sparse.eigsh(matrix, k=1, which="LA", v0=start(len(matrix)).numpy())
        except sparse.ArpackError:
            _, vectors = np.linalg.eigh(matrix)
        found.append(vectors[:, -1])
    return torch.from_numpy(np.stack(found)).to(matrices.device)


@SOLVERS.register("dense")
def dense(matrices: Tensor) -> Tensor:
    """All eigenvectors, of which the last is taken."""
    return torch.linalg.eigh(matrices)[1][:, :, -1]


def start(count: int) -> Tensor:
    """A fixed unit vector (N,) float64: the same image gives the same mask on every call."""
    vector = np.random.default_rng(0).standard_normal(count)
    return torch.from_numpy(vector / np.linalg.norm(vector))
