"""The type of a forward pass: what `auto` means, what it changes, and who is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vitreous
from vitreous.brain.activations import Extraction, cache_key, extract
from vitreous.brain.stimuli import read_stimuli
from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model, save_model
from vitreous.precision import autocast, resolve_precision

CPU = torch.device("cpu")
SMALL = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}


def has(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ("avx512_bf16", "bfloat16"),
        ("amx_bf16", "bfloat16"),
        ("bf16", "bfloat16"),
        ("avx512_f", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(
    capability: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, capability)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float16", CPU) == "float16"
    with pytest.raises(VitreousError, match="bfloat16"):
        resolve_precision("bfloat", CPU)


def test_products_are_made_in_the_type_and_relevance_is_added_up_in_float32() -> None:
    torch.manual_seed(0)
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, **SMALL)
    seen: list[torch.dtype] = []
    model.net.blocks[0].mlp.fc1.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    images = torch.rand(4, 3, 32, 32)
    exact = vitreous.relevance(model, images, 1)
    with autocast(CPU, "bfloat16"):
        close = vitreous.relevance(model, images, 1)
    with autocast(CPU, "float32"):
        assert torch.equal(vitreous.relevance(model, images, 1), exact)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert close.dtype == torch.float32 and not torch.equal(close, exact)
    ranks = [
        torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(exact, close)
    ]
    assert min(ranks) > 0.99


def model_and_images(folder: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, image_size=32, num_classes=2, **SMALL
    )
    model.class_names = ["a", "b"]
    numbers = np.random.default_rng(0)
    for name in "ab":
        (folder / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = numbers.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{name}/{i}.png")
    return save_model(model, folder / "model"), folder / "images"


def types_of_products(monkeypatch: pytest.MonkeyPatch) -> set[torch.dtype]:
    """Types that the first layer of each block's MLP gives, in all passes from here on."""
    seen: set[torch.dtype] = set()
    forward: Callable[[nn.Linear, Tensor], Tensor] = nn.Linear.forward

    def watched(layer: nn.Linear, x: Tensor) -> Tensor:
        output = forward(layer, x)
        seen.add(output.dtype)
        return output

    monkeypatch.setattr(nn.Linear, "forward", watched)
    return seen


def precisions(out: Path) -> list[str]:
    records = json.loads((out / "results.json").read_text())["records"]
    return [record["settings"].get("precision", "float32") for record in records]


def test_evaluate_names_the_type_and_keeps_both_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, "avx512_bf16")
    model, images = model_and_images(tmp_path)
    out = tmp_path / "out"
    command = ["evaluate", str(model), "--data", str(images), "--out", str(out), "--quiet"]
    command += ["--workers", "0", "--samples", "0", "--device", "cpu"]
    main(command)
    seen = types_of_products(monkeypatch)
    main([*command, "--precision", "auto"])
    assert seen == {torch.bfloat16}
    kinds = precisions(out)
    assert set(kinds) == {"float32", "bfloat16"}
    assert kinds.count("float32") == kinds.count("bfloat16") > 3


def test_auto_leaves_explanations_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, "avx512_bf16")
    model, images = model_and_images(tmp_path)
    for path in images.rglob("*.png"):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 255
        place = tmp_path / "masks" / path.relative_to(images)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(place)
    seen = types_of_products(monkeypatch)
    place = ["--out", str(tmp_path / "out"), "--masks", str(tmp_path / "masks"), "--quiet"]
    alone = ["--workers", "0", "--samples", "0", "--device", "cpu", "--precision", "auto"]
    main(["evaluate", str(model), "--data", str(images), *place, *alone])
    assert seen == {torch.float32}
    assert set(precisions(tmp_path / "out")) == {"float32"}


@pytest.mark.parametrize("method", ["relevance", "tokencut"])
def test_masks_are_made_in_the_type_that_was_asked_for(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = model_and_images(tmp_path)
    seen = types_of_products(monkeypatch)
    command = ["mask", str(images), "--method", method, "--model", str(model), "--edges", "none"]
    main([*command, "--out", str(tmp_path / "out"), "--precision", "bfloat16"])
    assert torch.bfloat16 in seen
    assert list((tmp_path / "out").rglob("*.png"))


def test_activations_of_another_type_have_a_place_of_their_own(tmp_path: Path) -> None:
    model, images = model_and_images(tmp_path)
    classifier: Classifier = load_model(str(model))
    stimuli = read_stimuli(images / "a")
    taken = {
        kind: extract(
            classifier, stimuli, ["blocks.1"], tmp_path / "cache", Extraction(precision=kind)
        )["blocks.1"]
        for kind in ("float32", "bfloat16")
    }
    assert not np.array_equal(taken["float32"], taken["bfloat16"])
    np.testing.assert_allclose(taken["bfloat16"], taken["float32"], atol=0.1)
    keys = {cache_key(classifier, stimuli, Extraction(precision=k)) for k in taken}
    assert len(keys) == 2
