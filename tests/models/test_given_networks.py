"""Networks that are given as they are: what they say of themselves, and saved and built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from open_clip.transformer import QuickGELU
from PIL import Image
from torch import Tensor, nn

import vitreous
from converted import COMMON, HEADS, PATCH, SIZE, WIDTH, seeded
from models.test_prompts import two_towers
from vitreous import load_model, save_model
from vitreous.attacks import PGD
from vitreous.data.dataset import Dataset
from vitreous.data.stores.arrays import ArrayImages
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.evaluation.evaluators.robustness import Robustness, robustness
from vitreous.models import Classifier, Preprocessing
from vitreous.models.hugging_face import normalization
from vitreous.models.towers import TowerClassifier

SHAPE: dict[str, Any] = {
    "img_size": SIZE,
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": 2,
    "num_heads": HEADS,
    "num_classes": 3,
}
PROMPTS = ("a cat", "a dog")
TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"drop_path_rate": 0.2, "global_pool": "avg"},
    "deit_tiny_distilled_patch16_224": {},
    "vit_base_patch16_siglip_224": {},
    "vit_small_patch16_dinov3": {},
    "eva02_tiny_patch14_224": {},
    "cait_xxs24_224": {},
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE)


def tower(**options: Any) -> nn.Module:
    made = open_clip.transformer.VisionTransformer(SIZE, PATCH, WIDTH, 2, 3, 4.0, **options)
    return seeded(made)


def alone() -> nn.Module:
    return tower(output_dim=3, act_layer=QuickGELU, ls_init_value=0.1)


def in_a_sequence() -> nn.Module:
    return nn.Sequential(tower(output_dim=8, pool_type="avg"), seeded(nn.Linear(8, 3)))


def headed() -> nn.Module:
    return TowerClassifier(tower(output_dim=8, patch_dropout=0.1), seeded(nn.Linear(8, 3)))


def same_again(net: nn.Module, folder: Path, images: Tensor) -> vitreous.Classifier:
    """Save and read a network; everything that decides an answer stays."""
    given = load_model(net)
    random = torch.get_rng_state()
    save_model(given, folder)
    assert torch.equal(torch.get_rng_state(), random)
    read = load_model(folder)
    assert given(images).std() > 0.01 and torch.equal(read(images), given(images))
    assert read.preprocessing == given.preprocessing and read.preprocessing.size == (SIZE, SIZE)
    assert torch.equal(read.mean, given.mean) and not read.new_head
    assert read.num_classes == given.num_classes == given(images).shape[1]
    maps = vitreous.relevance(read, images, 1)
    assert maps.std() > 0.01 and torch.equal(maps, vitreous.relevance(given, images, 1))
    return read


@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_is_read_as_it_was_written(name, images, tmp_path) -> None:
    net = seeded(timm.create_model(name, **{**SHAPE, **TIMM[name]}))
    read = same_again(net, tmp_path, images)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    pixels = (images - read.mean) / read.std
    torch.testing.assert_close(theirs(pixels), read(images), rtol=0, atol=1e-6)
    rates = [x.drop_prob for x in read.net.modules() if type(x).__name__ == "DropPath"]
    assert (max(rates, default=0) == pytest.approx(0.2)) == ("drop_path_rate" in TIMM[name])


@pytest.mark.parametrize("make", [alone, in_a_sequence, headed])
def test_a_tower_of_open_clip_is_read_as_it_was_written(make, images, tmp_path) -> None:
    net = make()
    read = same_again(net, tmp_path / "it", images)
    assert [type(x) for x in read.net.modules()] == [type(x) for x in net.modules()]
    save_model(read, tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again")(images), read(images))
    other = load_model(tmp_path / "it", num_classes=5)
    assert other.new_head and other.num_classes == 5 and other(images).shape == (2, 5)


def clip(size: int = SIZE) -> nn.Module:
    vision = {"image_size": size, "patch_size": PATCH, "width": WIDTH, "layers": 2, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(16, vision, text, output_dict=False).eval()


def test_a_whole_clip_says_what_its_image_tower_says(images, tmp_path) -> None:
    """The tower is not the first of its modules."""
    net: Any = clip()
    wanted = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    more = {"interpolation": "bilinear", "resize_mode": "squash"}
    open_clip.model.set_model_preprocess_cfg(net, {"size": SIZE, **wanted, **more})
    given = load_model(net, prompts=PROMPTS)
    assert given.preprocessing == Preprocessing((SIZE, SIZE), 1.0, "bilinear", "squash")
    assert given.mean.flatten().tolist() == pytest.approx(wanted["mean"])
    assert given.std.flatten().tolist() == pytest.approx(wanted["std"])
    save_model(given, tmp_path)
    read = load_model(tmp_path)
    assert torch.equal(read(images), given(images)) and read.class_names == list(PROMPTS)
    assert read.preprocessing == given.preprocessing


def test_timms_networks_within_open_clip_are_saved_under_its_name(tmp_path) -> None:
    base = "ViT-B-32-SigLIP2-256"
    with torch.device("meta"):
        model = open_clip.create_model(base, pretrained=None, device="meta")
    from vitreous.models.libraries import architecture_of

    net = TowerClassifier(model.visual, nn.Linear(768, 2))
    expected = {"architecture": f"open_clip:{base}", "model_args": {}}
    assert architecture_of(net) == expected
    model.visual.trunk.blocks[3].attn.num_heads = 6
    assert architecture_of(net) is None


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_a_head_that_was_put_on_later_is_counted_by_its_logits(library, images, tmp_path) -> None:
    net: Any
    if library == "timm":
        net = timm.create_model("vit_tiny_patch16_224", **{**SHAPE, "num_classes": 1000})
        net.head = nn.Linear(WIDTH, 3)
    elif library == "torchvision":
        from torchvision.models import VisionTransformer

        net = VisionTransformer(SIZE, PATCH, 2, HEADS, WIDTH, 48, num_classes=1000)
        net.heads.head = nn.Linear(WIDTH, 3)
    else:
        sizes = {**COMMON, "intermediate_size": 48, "num_labels": 1000}
        net = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes))
        net.classifier = nn.Linear(WIDTH, 3)
    given = load_model(seeded(net), image_size=SIZE)
    assert given.num_classes == 3 and not given.class_names
    same_again(net, tmp_path, images)


@pytest.mark.parametrize("change", ["heads", "eps", "layer", "weights"])
def test_what_timms_arguments_do_not_say_is_not_saved_as_if_they_did(change, tmp_path) -> None:
    net: Any = timm.create_model("vit_tiny_patch16_224", **SHAPE)
    if change == "heads":
        net.blocks[1].attn.num_heads = 2
    elif change == "eps":
        net.norm.eps = 1e-3
    elif change == "layer":
        net.blocks[0].mlp = nn.Linear(WIDTH, WIDTH)
    else:
        net.extra = nn.Parameter(torch.zeros(2))
    with pytest.raises(VitreousError, match="how it is built is not known") as error:
        save_model(load_model(net), tmp_path / "none")
    assert "\n" not in str(error.value) and not (tmp_path / "none").exists()


def test_a_tower_under_a_head_is_described_by_its_own_configuration(tmp_path) -> None:
    config = transformers.Dinov2Config(**COMMON)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    ).save_pretrained(tmp_path)
    read = transformers.Dinov2Model.from_pretrained(tmp_path)
    given = load_model(TowerClassifier(read, nn.Linear(WIDTH, 2)))
    assert given.preprocessing.size == (SIZE, SIZE)
    assert given.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_a_foreign_folder_of_a_tower_is_one_line(tmp_path) -> None:
    save_model(load_model(in_a_sequence()), tmp_path)
    with pytest.raises(VitreousError, match=r"keeps its input of \[32, 32\] pixels") as error:
        load_model(tmp_path, image_size=64)
    assert "\n" not in str(error.value)
    with pytest.raises(VitreousError, match="is read from a folder that vitreous wrote"):
        load_model("open_clip:VisionTransformer", num_classes=2)


@pytest.mark.parametrize("kind", ["open_clip", "CLIP", "tower"])
def test_a_network_without_classes_says_what_gives_it_some(kind: str, images: Tensor) -> None:
    net = {
        "open_clip": clip,
        "CLIP": lambda: two_towers("CLIP"),
        "tower": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**COMMON)),
    }[kind]()
    expected = "has no head: put one on it" if kind == "tower" else "give prompts, a sentence"
    with pytest.raises(UnsupportedModelError, match=expected) as error:
        vitreous.relevance(load_model(net), images)
    assert "\n" not in str(error.value)


def test_features_are_no_classes(tmp_path: Path, images: Tensor, caplog) -> None:
    """A network of timm's without its head gives features, which activations may be taken of."""
    shape = {**SHAPE, "num_classes": 0}
    headless = load_model(timm.create_model("vit_tiny_patch16_224", **shape))
    assert headless(images).shape == (len(images), WIDTH)
    for _ in range(2):
        assert vitreous.relevance(headless, images, method="rollout").shape[1:] == (1, SIZE, SIZE)
    (told,) = [r.getMessage() for r in caplog.records if "has no head" in r.getMessage()]
    assert "one feature and no class" in told and "\n" not in told
    pixels = torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)
    dataset = Dataset(ArrayImages(pixels, ["a"]), np.zeros(1, np.int64))
    with pytest.raises(UnsupportedModelError, match="has no head"):
        robustness(headless, dataset, Robustness("set", PGD(), (0.1,)), tmp_path)


@pytest.mark.parametrize(
    ("said", "whole"),
    [
        ({"rescale_factor": 1 / 127.5}, 2.0),
        ({"do_rescale": False}, 255.0),
        ({"rescale_factor": 1 / 255}, 1.0),
        ({"rescale_factor": 1 / 127.5, "do_normalize": False}, 2.0),
    ],
)
def test_what_a_processor_makes_of_bytes_is_what_the_network_gets(
    said: dict[str, Any], whole: float
) -> None:
    processor = transformers.ViTImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.5, 0.4, 0.3],
        image_std=[0.2] * 3,
        **said,
    )
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    mean, deviation = normalization(processor.to_dict())
    net = nn.Flatten()
    found = Classifier(net, mean, deviation).normalized(
        torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-4)
    assert float(found.abs().max()) > 0.4 * whole


def test_blocks_that_no_rule_knows_are_refused_in_a_line(images: Tensor) -> None:
    net = timm.create_model("vit_small_patch16_18x2_224", **SHAPE)
    for method in ("gradient_attention", "attn_lrp", "transformer_attribution"):
        with pytest.raises(UnsupportedModelError) as error:
            vitreous.relevance(load_model(net), images, method=method)
        assert "\n" not in str(error.value)
    assert vitreous.relevance(load_model(net), images, 1, "input_gradient").std() > 0.01


@pytest.mark.parametrize("target", [1.5, True, 2.0])
def test_a_target_that_is_no_class_is_one_line(target: float, images: Tensor) -> None:
    model = load_model(timm.create_model("vit_tiny_patch16_224", **SHAPE))
    with pytest.raises(VitreousError, match="expected a class by number or name"):
        vitreous.relevance(model, images, target)
