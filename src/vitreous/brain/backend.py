"""NumPy or torch under the same few operations, so that the regression is written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from vitreous.errors import VitreousError, require

# A NumPy array or a torch tensor: one code computes with either, which no type can say.
Array: TypeAlias = Any
# Above this size an iterative eigensolver beats the direct one.
DIRECT = 320


class Backend(Protocol):
    """The operations that NumPy and torch spell differently."""

    def array(self, values: np.ndarray) -> Array:
        """Bring an array here in float64."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Make zeros in float64."""
        ...

    def stack(self, parts: Sequence[Array]) -> Array:
        """Stack equal arrays along a new first axis."""
        ...

    def where(self, condition: Array) -> Array:
        """Indices at which a vector is true."""
        ...

    def choose(self, condition: Array, first: Array, other: Array) -> Array:
        """Take from `one` where the condition holds, else from `other`."""
        ...

    def leading_vectors(self, matrices: Array) -> Array:
        """Eigenvector of the largest eigenvalue of each symmetric matrix: S × m × m → S × m."""
        ...

    def numpy(self, values: Array) -> np.ndarray:
        """Bring an array back."""
        ...


class NumpyBackend:
    """NumPy and SciPy on the processor."""

    def array(self, values: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return np.asarray(values, dtype=np.float64)

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        """See `Backend`."""
        return np.zeros(shape)

    def stack(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        return np.stack(parts)

    def where(self, condition: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return np.flatnonzero(condition)

    def choose(self, condition: Array, first: np.ndarray, other: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return np.where(condition, first, other)

    def leading_vectors(self, matrices: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return np.stack([_leading_vector(matrix) for matrix in matrices])

    def numpy(self, values: np.ndarray) -> np.ndarray:
        """See `Backend`."""
        return values


class TorchBackend:
    """Torch in float64, on a CUDA device or the processor.

    Args:
        device: For example `cuda`.
    """

    def __init__(self, device: str | torch.device = "cuda"):
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise VitreousError("there is no CUDA device here; use --device cpu")

    def array(self, values: np.ndarray) -> torch.Tensor:
        """See `Backend`."""
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float64).to(self.device)

    def zeros(self, shape: tuple[int, ...]) -> torch.Tensor:
        """See `Backend`."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def stack(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `Backend`."""
        return torch.stack(list(parts))

    def where(self, condition: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return condition.nonzero()[:, 0]

    def choose(self, condition: Array, first: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return torch.where(condition, first, other)

    def leading_vectors(self, matrices: torch.Tensor) -> torch.Tensor:
        """See `Backend`."""
        return torch.linalg.eigh(matrices).eigenvectors[:, :, -1]

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        """See `Backend`."""
        return values.cpu().numpy()


def choose_backend(device: str) -> Backend:
    """NumPy for `cpu` (its eigensolver can stop at one vector), torch for a GPU with float64."""
    kind = torch.device(device).type
    return NumpyBackend() if kind in ("cpu", "mps") else TorchBackend(device)


def _leading_vector(matrix: np.ndarray) -> np.ndarray:
    size = len(matrix)
    linalg = require("scipy.linalg", "brain")
    if size > DIRECT:
        sparse = require("scipy.sparse.linalg", "brain")
        try:
            start = np.ones(size) + 1e-3 * np.cos(np.arange(size))
            return sparse.eigsh(matrix, k=1, which="LA", v0=start, tol=0)[1][:, 0]
        except (sparse.ArpackNoConvergence, sparse.ArpackError):
            pass  # a cluster of equal eigenvalues: the direct solver finds one of them
    last = [size - 1, size - 1]
    return linalg.eigh(matrix, subset_by_index=last, check_finite=False)[1][:, 0]
