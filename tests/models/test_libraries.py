"""Networks of other libraries by name and from the folders that they are written to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torchvision
import transformers
import yaml
from PIL import Image
from torch import Tensor, nn

import vitreous
from converted import COMMON, PATCH, SIZE, WIDTH, seeded
from helpers import tiny_recipe, write_squares
from models.test_prompts import PROMPTS, two_towers
from models.test_prompts import folder as prompts_folder
from vitreous import Classifier, load_model
from vitreous.cli import main
from vitreous.errors import CheckpointError, VitreousError
from vitreous.models import Preprocessing, save_model
from vitreous.models.libraries import Wanted, build_network
from vitreous.models.towers import TowerClassifier
from vitreous.results import Results

__all__ = ["prompts_folder"]

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIZE, "patch_size": PATCH, "width": 64, "layers": 2},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE)


def torchvision_vit(classes: int = 3) -> nn.Module:
    return seeded(
        torchvision.models.VisionTransformer(SIZE, PATCH, 2, 3, WIDTH, 48, num_classes=classes)
    )


def dinov3(classes: int = 3) -> TowerClassifier:
    config = transformers.DINOv3ViTConfig(**COMMON, intermediate_size=4 * WIDTH)
    return TowerClassifier(seeded(transformers.DINOv3ViTModel(config)), nn.Linear(WIDTH, classes))


@pytest.fixture
def tiny_clip(tmp_path: Path) -> str:
    """A configuration that open_clip knows by name."""
    file = tmp_path / "vitreous-tiny.json"
    file.write_text(json.dumps(CLIP))
    open_clip.add_model_config(file)
    return "open_clip:vitreous-tiny"


@pytest.mark.parametrize("make", [torchvision_vit, dinov3])
def test_a_network_is_read_as_it_was_written(make, images: Tensor, tmp_path: Path) -> None:
    view = Preprocessing((SIZE, SIZE), 0.9, "bilinear", "squash")
    given = Classifier(
        make(), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), preprocessing=view, class_names=["a", "b", "c"]
    ).eval()
    save_model(given, tmp_path / "it")
    read = load_model(tmp_path / "it")
    assert torch.equal(read(images), given(images)) and given(images).std() > 0.01
    assert (read.preprocessing, read.class_names) == (view, ["a", "b", "c"])
    assert read.name == "it" and not read.new_head
    assert type(read.net) is type(given.net)
    maps = vitreous.relevance(read, images)
    torch.testing.assert_close(maps, vitreous.relevance(given, images), rtol=0, atol=0)
    save_model(read, tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again")(images), given(images))


@pytest.mark.parametrize("make", [torchvision_vit, dinov3])
def test_another_number_of_classes_is_a_new_head(make, images: Tensor, tmp_path: Path) -> None:
    given = Classifier(make(), preprocessing=Preprocessing((SIZE, SIZE))).eval()
    save_model(given, tmp_path)
    read = load_model(tmp_path, num_classes=5)
    assert read(images).shape == (2, 5) and read.new_head and read.num_classes == 5
    own, other = given.net.state_dict(), read.net.state_dict()
    kept = [k for k in own if not k.startswith("head")]
    assert kept and all(torch.equal(own[k], other[k]) for k in kept)


def test_open_clip_by_name_has_a_head_or_prompts(tiny_clip, images, tmp_path, caplog) -> None:
    head = load_model(tiny_clip, pretrained=False, num_classes=4)
    assert head.new_head and head(images).shape == (2, 4) and not caplog.records
    assert head.preprocessing.size == (SIZE, SIZE)
    prompts = load_model(tiny_clip, pretrained=False, prompts=PROMPTS)
    assert not prompts.new_head and prompts.class_names == list(PROMPTS)
    for number, given in enumerate((head, prompts)):
        save_model(given, tmp_path / str(number))
        read = load_model(tmp_path / str(number))
        assert torch.equal(read(images), given(images)) and given(images).std() > 0
        assert read.preprocessing == given.preprocessing and not read.new_head
        assert torch.equal(read.mean, given.mean) and read.class_names == given.class_names
    other = load_model(tmp_path / "1", num_classes=2)
    assert other.new_head and other(images).shape == (2, 2)


def test_prompts_are_kept_without_their_words(prompts_folder, images, tmp_path) -> None:
    """What is written needs no tokenizer and holds no text tower."""
    given = load_model(prompts_folder, prompts=PROMPTS)
    save_model(given, tmp_path / "zero")
    assert sorted(p.name for p in (tmp_path / "zero").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert str(prompts_folder) not in (tmp_path / "zero/config.json").read_text()
    read = load_model(tmp_path / "zero")
    assert torch.equal(read(images), given(images)) and read.class_names == list(PROMPTS)
    assert read.preprocessing == given.preprocessing and torch.equal(read.std, given.std)
    assert all("text" not in key for key in read.net.state_dict())


def test_prompts_go_from_export_to_training_and_evaluation(
    prompts_folder, tmp_path, capsys
) -> None:
    root = write_squares(tmp_path / "set", 6)
    zero, run = str(tmp_path / "zero"), tmp_path / "run"
    sentences = ["--prompts", "a photo of a cat", "a photo of a dog"]
    assert main(["export", str(prompts_folder), *sentences, "--out", zero]) == 0
    assert f'load it with vitreous.load_model("{zero}")' in capsys.readouterr().out
    data = ["--data", str(root / "images"), "--device", "cpu", "--quiet"]
    assert main(["evaluate", zero, *data, "--workers", "0", "--out", str(tmp_path / "e")]) == 0
    before = Results.read(tmp_path / "e").records
    assert [r.n for r in before if r.metric == "top1"] == [6]
    assert main(["attack", zero, *data, "--attack", "fgsm", "--out", str(tmp_path / "a")]) == 0
    values = tiny_recipe(root, model={"name": zero})
    values["training"] |= {"epochs": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    line = ["train", str(tmp_path / "recipe.yaml"), "--out", str(run), "--quiet"]
    assert main(line) == 0
    trained, start = load_model(run), load_model(zero)
    assert isinstance(trained.net, TowerClassifier) and trained.num_classes == 2
    own, other = start.net.state_dict(), trained.net.state_dict()
    assert own.keys() == other.keys() and torch.equal(own["head.prompts"], other["head.prompts"])
    assert any(not torch.equal(own[k], other[k]) for k in own)
    assert main(["evaluate", str(run), *data, "--workers", "0"]) == 0


def test_prompts_of_a_recipe_are_the_classes_of_its_data(prompts_folder, tmp_path, capsys) -> None:
    root = write_squares(tmp_path / "set", 6)
    model = {"name": str(prompts_folder), "prompts": list(PROMPTS)}
    values = tiny_recipe(root, model=model)
    values["training"] |= {"epochs": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    line = ["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main(line) == 1
    expected = "model.prompts: expected a sentence for each of the 2 classes of the data, found 3"
    assert expected in capsys.readouterr().err
    assert main([*line, "--model.prompts", "[a cat, a photo of a dog]"]) == 0
    assert load_model(tmp_path / "run").class_names == ["c0", "c1"]


def test_torchvision_by_name_is_torchvisions(tmp_path: Path) -> None:
    size = {"num_layers": 1, "hidden_dim": 24, "mlp_dim": 24, "num_heads": 2}
    with pytest.raises(VitreousError, match="takes no argument 'depth'"):
        load_model("torchvision:vit_b_32", pretrained=False, depth=1)
    arguments = {"image_size": SIZE, "patch_size": PATCH, "num_classes": 3, **size}
    built = build_network("torchvision:VisionTransformer", Wanted("", arguments))
    assert type(built.net) is torchvision.models.VisionTransformer
    assert {k: built.architecture["model_args"][k] for k in arguments} == arguments


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("torchvision:vit_b_17", {}, "did you mean 'vit_b_16'"),
        ("torchvision:vit_b_16/NONE", {}, "unknown weights 'NONE' of vit_b_16"),
        ("torchvision:vit_b_16/IMAGENET1K_V1", {"pretrained": False}, "names weights, but none"),
        ("torchvision:vit_b_16", {"pretrained": False, "prompts": ["a"]}, "knows no text"),
        ("torchvision:VisionTransformer", {"pretrained": False}, "cannot build torchvision"),
        ("open_clip:ViT-B-23", {}, "did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32", {}, "has no classes of its own"),
        ("open_clip:ViT-B-32", {"num_classes": 2}, "name the weights of ViT-B-32, as in"),
        ("open_clip:ViT-B-32/none", {"num_classes": 2}, "unknown weights 'none' of ViT-B-32"),
        ("open_clip:ViT-B-32", {"num_classes": 2, "depth": 3}, "takes no argument 'depth'"),
        ("open_clip:ViT-B-32", {"num_classes": 2, "prompts": ["a"]}, "prompts are the classes"),
        ("transformers:CLIPVisionModel", {}, "name a model of the hub as hf:owner/name"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, arguments: dict, expected: str) -> None:
    with pytest.raises(VitreousError, match=expected) as error:
        load_model(name, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model_type": "nothing"}, "cannot build transformers:DINOv3ViTModel"),
        ({"model_type": "vit"}, "makes a ViTModel of this configuration"),
        ({"model_type": 3}, "is read from a folder that vitreous wrote"),
        ({"hidden_size": "wide"}, "cannot build transformers:DINOv3ViTModel"),
        ({"num_hidden_layers": 9}, "is of another architecture"),
    ],
)
def test_a_foreign_configuration_is_one_line(change: dict, expected: str, tmp_path: Path) -> None:
    save_model(Classifier(dinov3(), preprocessing=Preprocessing((SIZE, SIZE))), tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["model_args"]["config"] |= change
    file.write_text(json.dumps(config))
    with pytest.raises((VitreousError, CheckpointError), match=expected) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_code_that_a_configuration_names_is_not_run(tmp_path: Path) -> None:
    save_model(Classifier(dinov3(), preprocessing=Preprocessing((SIZE, SIZE))), tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    named = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    config["model_args"]["config"] |= {"auto_map": named, "_name_or_path": str(tmp_path)}
    file.write_text(json.dumps(config))
    load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_built_again_is_told(tmp_path: Path) -> None:
    heads = nn.Sequential(nn.Linear(WIDTH, 8), nn.Linear(8, 3))
    for net in (TowerClassifier(dinov3().tower, heads), nn.Flatten()):
        with pytest.raises(VitreousError, match="how it is built is not known"):
            save_model(Classifier(net), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_stored_view_is_kept_by_timms_folders(tmp_path: Path) -> None:
    shape = {"pretrained": False, "num_classes": 2, "image_size": SIZE, "depth": 1}
    model = load_model("vit_tiny_patch16_224", **shape)
    model.preprocessing = Preprocessing((SIZE, SIZE), 1.0, "bilinear", "squash")
    save_model(model, tmp_path / "timm")
    assert load_model(tmp_path / "timm").preprocessing == model.preprocessing
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "it.png")
    config = json.loads((tmp_path / "timm/config.json").read_text())
    config["pretrained_cfg"]["interpolation"] = "magic"
    (tmp_path / "timm/config.json").write_text(json.dumps(config))
    with pytest.raises(VitreousError, match="interpolation"):
        load_model(tmp_path / "timm")


def test_a_siglip_tower_with_a_pooling_head_is_read_again(images, tmp_path) -> None:
    tower = TowerClassifier(two_towers("Siglip").vision_model, nn.Linear(WIDTH, 3))
    given = Classifier(tower, preprocessing=Preprocessing((SIZE, SIZE))).eval()
    save_model(given, tmp_path)
    assert torch.equal(load_model(tmp_path)(images), given(images))
