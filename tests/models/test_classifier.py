"""Loading, saving, and weights that do not fit."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import nn

import vitreous
from vitreous.cli import main
from vitreous.errors import CheckpointError, VitreousError
from vitreous.models.checkpoints import read_weights

TINY = dict(pretrained=False, img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3)


def tiny(**options) -> vitreous.Classifier:
    return vitreous.load_model("vit_tiny_patch16_224", **{**TINY, "num_classes": 5, **options})


def test_normalisation_is_inside():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    classifier = vitreous.Classifier(net, (0.1, 0.2, 0.3), (0.5, 0.25, 0.125))
    images = torch.rand(2, 3, 2, 2)
    mean = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    std = torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1)
    assert torch.allclose(classifier(images), net((images - mean) / std))


def test_models_bring_their_own_normalization_unless_asked_otherwise():
    deit = vitreous.load_model("deit_tiny_patch16_224", pretrained=False)
    assert deit.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert deit.class_name(0).startswith("tench")
    half = vitreous.load_model("deit_tiny_patch16_224", pretrained=False, normalization="half")
    assert half.mean.flatten().tolist() == half.std.flatten().tolist() == [0.5] * 3


def test_saved_folders_are_loaded_by_timm_and_by_us(tmp_path: Path):
    classifier = tiny(class_names=list("abcde"), num_classes=None)
    vitreous.save_model(classifier, tmp_path / "saved")
    images = torch.rand(2, 3, 32, 32)
    expected = classifier(images)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert torch.allclose(theirs((images - 0.5) / 0.5), expected, atol=1e-6)
    for name in (tmp_path / "saved", f"local-dir:{tmp_path / 'saved'}"):
        ours = vitreous.load_model(name)
        assert torch.equal(ours(images), expected)
        assert ours.class_names == list("abcde") and ours.preprocessing == classifier.preprocessing


@pytest.mark.parametrize("form", ["plain", "module", "crossvit", "safetensors", "backbone"])
def test_every_checkpoint_format_loads(tmp_path: Path, form: str):
    source = tiny()
    state = {k: v.clone() for k, v in source.net.state_dict().items()}
    path = tmp_path / ("w.safetensors" if form in ("safetensors", "backbone") else "w.pth.tar")
    if form == "plain":
        torch.save(state, path)
    elif form == "module":  # RobustViT's release
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif form == "crossvit":  # CrossViT Adv+Rot's release
        optimizer = torch.optim.Adam(source.parameters())
        extra = {"epoch": 3, "arch": "vit_tiny_patch16_224", "best_prec1": torch.tensor(71.5)}
        prefixed = {f"module.{k}": v for k, v in state.items()}
        torch.save({**extra, "state_dict": prefixed, "optimizer": optimizer.state_dict()}, path)
    else:
        prefix = "backbone." if form == "backbone" else ""
        tensors = {prefix + k: v.half() for k, v in state.items()}
        tensors["decoder.weight"] = torch.zeros(2)
        if form == "safetensors":
            tensors = state
        safetensors.torch.save_file(tensors, path)
    loaded = tiny(checkpoint=path, num_classes=None)
    images = torch.rand(2, 3, 32, 32)
    tolerance = 2e-3 if form == "backbone" else 1e-6  # stored in half precision
    assert torch.allclose(loaded(images), source(images), atol=tolerance)
    if form == "crossvit":
        assert read_weights(path).architecture == "vit_tiny_patch16_224"
        named = vitreous.load_model(path, **{k: v for k, v in TINY.items() if k != "pretrained"})
        assert torch.allclose(named(images), source(images), atol=1e-6)


def test_another_head_or_input_size_is_a_parameter(tmp_path: Path):
    source = tiny()
    torch.save(source.net.state_dict(), tmp_path / "w.pth")
    other = tiny(checkpoint=tmp_path / "w.pth", num_classes=7, img_size=48)
    assert other(torch.rand(1, 3, 48, 48)).shape == (1, 7)
    assert other.preprocessing.size == (48, 48)
    assert torch.equal(other.net.blocks[0].attn.qkv.weight, source.net.blocks[0].attn.qkv.weight)


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_weights_that_do_not_fit_are_told_in_one_line(tmp_path: Path, capsys):
    def told(name: str) -> str:
        path = tmp_path / name
        arguments = ["explain", str(tmp_path), "--model", "vit_tiny_patch16_224"]
        assert main([*arguments, "--checkpoint", str(path)]) == 1
        captured = capsys.readouterr()
        assert "code ran" not in captured.out
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
        return captured.err

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    assert "another architecture than VisionTransformer" in told("other.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Malicious()))
    assert "not a file of weights only" in told("code.pth")
    torch.save({"state_dict": {"a": Malicious()}}, tmp_path / "zip.pth")
    assert "not a file of weights only" in told("zip.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 10)
    assert "corrupt or cut short" in told("cut.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    assert "holds no tensors" in told("empty.pth")
    assert "no weights at" in told("missing.pth")


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(VitreousError, match="did you mean 'vit_base_patch16_224'"):
        vitreous.load_model("vit_base_patch16_22")
    with pytest.raises(VitreousError, match="did you mean 'augreg_in21k_ft_in1k'"):
        vitreous.load_model("vit_small_patch16_224.augreg_in21k_ft_in1")
    with pytest.raises(CheckpointError, match="no model at"):
        vitreous.load_model("local-dir:nowhere")
    with pytest.raises(VitreousError, match="how it is built is not known"):
        vitreous.save_model(vitreous.Classifier(nn.Flatten()), "nowhere")
    assert not Path("nowhere").exists()


def test_the_pretrained_transformer_at_hand_loads(shared: Path):
    weights = shared / "data" / "weights" / "dinov2_vits14_saliency_fp16.safetensors"
    name = "vit_small_patch14_dinov2.lvd142m"
    classifier = vitreous.load_model(name, checkpoint=weights, pretrained=False, image_size=98)
    assert vitreous.relevance(classifier, torch.rand(1, 3, 98, 98)).shape == (1, 1, 98, 98)


def test_the_package_is_light_until_something_is_asked_for():
    script = (
        "import sys, vitreous.cli\n"
        "assert vitreous.cli.main(['--help']) == 0 and 'torch' not in sys.modules\n"
        "import inspect, vitreous\n"
        "assert 'second_order' in inspect.signature(vitreous.relevance).parameters\n"
        "assert vitreous.relevance.__module__ == 'vitreous.attribution.compute'\n"
        "from vitreous import Classifier, explain, load_model, record_attention, relevance\n"
        "assert callable(relevance) and vitreous.evaluation.segmentation_scores\n"
        "assert {'relevance', 'attacks', 'load_model'} <= set(dir(vitreous))\n"
        "try: vitreous.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_network_nobody_waits_for_the_hub(tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    asked = []

    def nowhere(*address, **_):
        asked.append(address)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("vitreous.models.hub.getproxies", dict)
    with pytest.raises(VitreousError, match="not in the local cache and could not be fetched"):
        vitreous.load_model("vit_base_patch16_224.dino")
    assert len(asked) == 1 and "Retry" not in capfd.readouterr().err
    assert constants.HF_HUB_OFFLINE is False
