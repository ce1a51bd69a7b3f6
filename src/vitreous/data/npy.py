"""NumPy's files, also foreign ones: mapped, so that a head that lies of its size costs nothing."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np

from vitreous.errors import VitreousError


def map_array(path: Path) -> np.ndarray:
    """Map a `.npy` file of numbers or truth values; nothing of it is read yet.

    Raises:
        VitreousError: If it is missing, is no such file, is shorter than its head says, would run
            code, or holds no numbers.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError as error:
        raise VitreousError(f"no array at {path}") from error
    except (OSError, ValueError, EOFError, OverflowError, TypeError) as error:
        raise VitreousError(f"{path} is not a NumPy array that can be read: {error}") from error
    except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError) as error:
        raise VitreousError(f"{path} is not a NumPy array: its head makes no sense") from error
    if not isinstance(array, np.ndarray):
        raise VitreousError(f"{path} holds several arrays, expected one")
    if array.dtype.kind not in "biuf":
        raise VitreousError(f"{path}: expected numbers, found {array.dtype} {array.shape}")
    return array
