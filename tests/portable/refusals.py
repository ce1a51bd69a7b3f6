"""What other systems refuse, refused here: double precision, syncing a handle for reading."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What Windows forbids in names, and the names that it keeps for devices.
FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


# What `torch.from_numpy` does: its tensors lie on the host, where there is double precision.
ON_HOST = (torch.ops.aten.lift_fresh.default, torch.ops.aten.detach.default)


class NoDoublePrecision(TorchDispatchMode):
    """Refuses every operation that makes a float64 tensor, as Apple's GPUs do."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Run one operation and look at what comes out."""
        out = func(*args, **(kwargs or {}))
        if func in ON_HOST:
            return out
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise TypeError(f"{func} makes float64, which Apple's GPUs do not have")
        return out


def strict_sync(handle: int) -> None:
    """`os.fsync` as Windows has it, which syncs only what may be written."""
    import fcntl

    if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "fsync of a handle that is opened for reading")
    _sync(handle)


_sync: Callable[[int], None] = os.fsync


def forbidden_parts(path: PurePath) -> list[str]:
    """Parts of a path that Windows would not make."""
    return [p for p in path.parts if FORBIDDEN.search(p) or DEVICES.fullmatch(p)]
