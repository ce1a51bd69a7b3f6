"""A run folder is one launch's at a time: all its processes go on, or all are refused."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from vitreous.locks import FolderInUse, folder_lock


@contextlib.contextmanager
def held_by_all(folder: Path, accelerator: Accelerator) -> Generator[None]:
    """Hold a run folder while its processes train; the main one takes the lock for all.

    Raises:
        FolderInUse: In every process of the launch, if another launch holds the folder.
    """
    with contextlib.ExitStack() as stack:
        refusal = [""]
        if accelerator.is_main_process:
            try:
                stack.enter_context(folder_lock(folder, "training"))
            except FolderInUse as error:
                refusal = [str(error)]
        if accelerator.num_processes > 1:
            broadcast_object_list(refusal)
        if refusal[0]:
            raise FolderInUse(refusal[0])
        yield
