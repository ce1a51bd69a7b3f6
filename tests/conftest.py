"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

# Tensors in tests are small: one thread is faster than two, and what is trained comes out the same
# on every machine. Processes that tests start take it from the environment.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# tqdm's watching thread warns of a race of its own where bars come and go quickly (its issue 481).
tqdm.monitor_interval = 0

# Without a GPU, Triton's kernels are run by its interpreter; it is told before it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Leave long tests out of a run of everything; whoever names files or `-m` says what runs."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and not config.option.markexpr:
        config.option.markexpr = "not long"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data (weights, photos) that lies beside a developer's checkout."""
    folder = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder, which is not at {folder.name}/ here")
    return folder


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip checks of a device that is not there, saying so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
