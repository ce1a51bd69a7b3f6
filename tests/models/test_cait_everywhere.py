"""CaiT in the rest of the house: commands on a saved folder, activations, ONNX with maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vitreous
from helpers import write_squares
from models.test_cait import DEPTH, PATCHES, SIDE, made
from vitreous import Classifier, load_model, save_model
from vitreous.attribution.export import export_onnx
from vitreous.brain.activations import extract
from vitreous.brain.stimuli import read_stimuli
from vitreous.cli import main
from vitreous.models import Preprocessing
from vitreous.results import Results


@pytest.fixture
def cait(tmp_path: Path) -> tuple[Classifier, Path]:
    """A CaiT of two classes, and the folder of it."""
    given = load_model(made(num_classes=2)[0].net.float())
    assert given.preprocessing.size == (SIDE, SIDE)
    given.preprocessing = Preprocessing((SIDE, SIDE), 1.0)
    return given, save_model(given, tmp_path / "cait")


def test_a_cait_is_evaluated_and_attacked_by_the_commands(cait, tmp_path: Path) -> None:
    _, folder = cait
    root = write_squares(tmp_path / "set", 6)
    data = ["--data", str(root / "images"), "--device", "cpu", "--quiet"]
    out = tmp_path / "out"
    masks = ["--masks", str(root / "masks"), "--workers", "0"]
    assert main(["evaluate", str(folder), *data, *masks, "--out", str(out)]) == 0
    records = {r.metric: r for r in Results.read(out).records}
    right = [load_model(folder)(one).argmax(1) == label for one, label in pictures(root)]
    assert records["top1"].value == pytest.approx(torch.cat(right).float().mean().item())
    assert records["foreground_share"].n == 6 and 0 < records["foreground_share"].value < 1
    assert main(["attack", str(folder), *data, "--attack", "fgsm", "--out", str(out)]) == 0
    assert any(r.settings.get("attack") == "fgsm" for r in Results.read(out).records)


def pictures(root: Path) -> list[tuple[Tensor, int]]:
    from PIL import Image

    from vitreous.data.images import evaluation_transform

    prepare = evaluation_transform(Preprocessing((SIDE, SIDE), 1.0))
    files = sorted((root / "images").rglob("*.png"))
    return [(prepare(Image.open(f))[None], int(f.parent.name[1])) for f in files]


def test_activations_of_both_parts_are_what_their_blocks_put_out(cait, tmp_path: Path) -> None:
    given, _ = cait
    stimuli = read_stimuli(write_squares(tmp_path / "set", 4) / "images", degrees=8.0)
    seen: dict[str, Tensor] = {}
    net: Any = given.net
    parts = {"blocks.1": net.blocks[1], "blocks_token_only.0": net.blocks_token_only[0]}
    taken = extract(given, stimuli, ["blocks.*", "blocks_token_only.*"], tmp_path / "cache")
    assert list(taken) == [
        *(f"blocks.{i}" for i in range(DEPTH)),
        "blocks_token_only.0",
        "blocks_token_only.1",
    ]
    images = torch.cat([image for image, _ in pictures(tmp_path / "set")])
    handles = [
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        given(images)
    for handle in handles:
        handle.remove()
    assert seen["blocks.1"].shape[1] == PATCHES and seen["blocks_token_only.0"].shape[1] == 1
    for name, wanted in seen.items():
        found = np.sort(taken[name], 0)  # the two list their images in their own orders
        np.testing.assert_allclose(found, np.sort(wanted.flatten(1).numpy(), 0), atol=1e-4)
        assert found.std() > 0.01


def test_an_onnx_graph_gives_caits_logits_and_its_maps(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    given = Classifier(made(depth=1)[0].net.float(), preprocessing=Preprocessing((SIDE, SIDE)))
    export_onnx(given.eval(), tmp_path / "both.onnx", relevance=True)
    images = torch.rand(2, 3, SIDE, SIDE)
    session = runtime.InferenceSession(str(tmp_path / "both.onnx"))
    found = session.run(None, {"images": images.numpy()})
    logits, maps = given(images).detach(), vitreous.relevance(given, images)
    torch.testing.assert_close(torch.from_numpy(found[0]), logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found[1]), maps, atol=1e-4, rtol=0)
    assert maps.std() > 0.05 and logits.std() > 0.01


def test_a_saved_cait_is_loaded_for_images_of_another_size(tmp_path: Path) -> None:
    """timm's own filter leaves the position embeddings of CaiT as they are."""
    options = {"depth": 1, "embed_dim": 24, "num_heads": 2, "patch_size": 8, "num_classes": 3}
    model = load_model("cait_xxs24_224", pretrained=False, image_size=32, **options)
    torch.nn.init.normal_(model.net.pos_embed)
    save_model(model, tmp_path / "saved")
    larger = load_model(tmp_path / "saved", image_size=48)
    assert larger(torch.rand(1, 3, 48, 48)).shape == (1, 3)
    grids = [
        m.net.pos_embed.detach().mT.unflatten(-1, (s, s)) for m, s in ((model, 4), (larger, 6))
    ]
    expected = F.interpolate(grids[0], (6, 6), mode="bicubic", antialias=True)
    torch.testing.assert_close(grids[1], expected, rtol=0, atol=1e-5)
    assert torch.equal(load_model(tmp_path / "saved").net.pos_embed, model.net.pos_embed)
