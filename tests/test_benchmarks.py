"""What benchmarks compare: a floor is of the same arithmetic as what is held to it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import vitreous
from vitreous.data.batch import Batch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "relevance.py"


def operations(call: Callable[[], object]) -> int:
    """Multiplications and additions of matrix products and the like."""
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops()


@pytest.fixture(scope="module")
def script() -> dict[str, Callable[..., object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as for a script that is run by its name
        return runpy.run_path(str(SCRIPT))


def test_the_floors_of_relevance_are_of_the_same_arithmetic(script) -> None:
    model = vitreous.load_model("deit_tiny_patch16_224", pretrained=False, depth=2).train()
    images, labels, rows = torch.rand(1, 3, 224, 224), torch.tensor([1]), torch.tensor([True])
    masks = torch.zeros(1, 1, 224, 224)
    masks[..., 50:150, 50:150] = 1
    batch = Batch(images, labels, masks, rows, labels)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    once = operations(lambda: model(images))
    floor = operations(lambda: script["floor_relevance"](model, images, labels))
    ours = operations(lambda: vitreous.relevance(model, images, labels))
    assert once < floor < ours < 1.01 * floor, "a forward pass and one to the activations"
    floor = operations(lambda: script["floor_step"](model, optimizer, batch))
    ours = operations(lambda: script["our_step"](model, optimizer, batch))
    assert floor < ours < 1.01 * floor
