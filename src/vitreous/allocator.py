"""How the C library keeps memory between two passes of a model."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 2**31 - 1  # bytes; the largest number that mallopt takes
SETTINGS = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, instead of giving it back and asking for it again.

    By itself glibc asks the system for each block of more than 32 MiB and gives it back when it is
    freed. An activation of a ViT-S at 224 px is larger from 28 images on, so that each layer's
    memory comes anew, and is cleared page by page: of a forward pass of 32 images that is a fifth.
    Kept, the process is as large as at its peak until it ends, and the peak is some percent higher,
    for what is free lies in pieces. For programs that own their process: the command line does so
    at its start.

    Returns:
        Whether it was done: not where the C library is another, or where the environment says how
        memory is kept (`MALLOC_…`, `GLIBC_TUNABLES`).

    Examples:
        >>> keep_freed_memory()  # doctest: +SKIP
        True
    """
    if any(name.startswith(SETTINGS) for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # another system
        return False
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    options = (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    return all(library.mallopt(option, KEPT) for option in options)
