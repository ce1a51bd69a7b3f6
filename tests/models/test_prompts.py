"""Prompts as classes of CLIP and SigLIP models, and DINOv3 under a head: logits, maps, mistakes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from converted import CLASSES, COMMON, DEPTH, PATCH, SIZE, WIDTH, block_state, load_exactly, seeded
from converted import timm_twin as twin_of
from vitreous import Classifier, load_model
from vitreous.attribution import METHODS
from vitreous.cli import main
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.models.forward import record_forward
from vitreous.models.towers import PromptHead, TowerClassifier

PROMPTS = ("a photo of a cat", "a photo of a dog", "a cat")
WORDS = ["<pad>", "<start>", "<end>", "a", "photo", "of", "cat", "dog"]
LENGTH = 8
TEXT = {
    "vocab_size": len(WORDS),
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": LENGTH,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Words to their places, with a token before and one behind."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<start>", 1), ("<end>", 2)]
    made.post_processor = processors.TemplateProcessing("<start> $A <end>", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", bos_token="<start>", eos_token="<end>"
    )


def two_towers(kind: str) -> nn.Module:
    vision = {**COMMON, "intermediate_size": 4 * WIDTH}
    options = {"projection_dim": 16} if kind == "CLIP" else {}
    config = getattr(transformers, f"{kind}Config")(
        text_config=TEXT, vision_config=vision, **options
    )
    net = seeded(getattr(transformers, f"{kind}Model")(config))
    net.logit_scale.data.fill_(1.5)
    return net


@pytest.fixture(params=["CLIP", "Siglip"])
def folder(request, tmp_path: Path) -> Path:
    two_towers(request.param).save_pretrained(tmp_path / "theirs")
    tokenizer().save_pretrained(tmp_path / "theirs")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.4],
    )
    processor.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE)


def test_logits_are_those_of_their_own_library(folder: Path, images: Tensor) -> None:
    classifier = load_model(folder, prompts=PROMPTS)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = words(list(PROMPTS), padding="max_length", max_length=LENGTH, return_tensors="pt")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        pixels = (images - mean) / std
        output = theirs(input_ids=tokens["input_ids"], pixel_values=pixels)
        expected = output.logits_per_image
        torch.testing.assert_close(classifier(images), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01 and classifier.num_classes == 3
    assert classifier.class_names == list(PROMPTS) and classifier.preprocessing.size == (SIZE, SIZE)


@pytest.mark.parametrize("against", [None, "a cat"])
def test_a_prompt_is_explained_as_full_matrices_have_it(folder: Path, images, against) -> None:
    """Brute force; SigLIP's learned query is one more token, which reads the others."""
    classifier = load_model(folder, prompts=PROMPTS)
    with vitreous.record_attention(classifier) as trace:
        logits = classifier(images)
    pooled = trace.maps[-1].shape[-2] == 1
    assert len(trace.maps) == DEPTH + pooled
    score = logits[:, 1] - (0 if against is None else logits[:, 2])
    gradients = torch.autograd.grad(score.sum(), trace.maps)
    count = trace.maps[0].shape[-1]
    matrix = torch.eye(count).expand(2, -1, -1)
    cams = [(a * g).clamp(min=0).mean(1) for a, g in zip(trace.maps, gradients)]
    for cam in cams[:DEPTH]:
        matrix = matrix + cam @ matrix
    row = (cams[-1] @ matrix)[:, 0] if pooled else matrix[:, 0, 1:]
    maps = F.interpolate(row.reshape(2, 1, 4, 4), size=(SIZE, SIZE), mode="bilinear")
    low, high = maps.amin((1, 2, 3), True), maps.amax((1, 2, 3), True)
    values = vitreous.relevance(classifier, images, "a photo of a dog", against=against)
    torch.testing.assert_close(values, (maps - low) / (high - low), rtol=0, atol=1e-5)
    assert values.std() > 0.01


def test_maps_from_inputs_are_those_from_maps(folder: Path, images) -> None:
    """A pooling head takes the way of whole maps; CLIP's tower may be recorded by its inputs."""
    classifier = load_model(folder, prompts=PROMPTS)
    made = record_forward(classifier, images, attention=True, inputs_suffice=True)
    pooled = "Siglip" in type(classifier.net.tower).__name__
    assert bool(made.inputs) != pooled and len(made.inputs) in (0, DEPTH)


def test_the_command_explains_a_prompt(folder: Path, tmp_path: Path, capsys) -> None:
    picture = Image.fromarray((torch.rand(40, 40, 3) * 255).byte().numpy())
    picture.save(tmp_path / "it.png")
    out = tmp_path / "out"
    command = ["explain", str(tmp_path / "it.png"), "--model", str(folder), "--out", str(out)]
    assert main([*command, "--prompts", *PROMPTS, "--target", "a photo of a dog"]) == 0
    said = capsys.readouterr().out
    assert all(prompt in said for prompt in PROMPTS)
    assert main([*command, "--prompts", *PROMPTS, "--target", "a photo of a bird"]) == 1
    assert "no class is called 'a photo of a bird'" in capsys.readouterr().err


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_open_clip_is_taken_with_its_own_words(pool: str, images: Tensor) -> None:
    import open_clip

    vision = {"image_size": SIZE, "patch_size": PATCH, "width": WIDTH, "layers": 2}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(
        16, {**vision, "head_width": 8, "pool_type": pool}, text, output_dict=False
    ).eval()
    classifier = load_model(model, prompts=PROMPTS)
    pixels = (images - classifier.mean) / classifier.std
    with torch.no_grad():
        features, embedded, scale = model(pixels, open_clip.tokenize(list(PROMPTS)))
        expected = scale * features @ embedded.T
        torch.testing.assert_close(classifier(images), expected, rtol=1e-5, atol=1e-4)
    maps = vitreous.relevance(classifier, images, PROMPTS[0])
    assert maps.shape == (2, 1, SIZE, SIZE) and maps.std() > 0.01
    with vitreous.record_attention(classifier) as trace:
        classifier(images)
    assert trace.names == [f"net.tower.transformer.resblocks.{i}.attn" for i in range(2)]


def test_a_network_of_timm_within_open_clip_is_its_own() -> None:
    from open_clip.timm_model import TimmModel

    tower = TimmModel("vit_tiny_patch16_224", 16, pool="token", proj="linear")
    images, _ = torch.rand(1, 3, 224, 224), seeded(tower, 1.0)
    net = Classifier(TowerClassifier(tower, PromptHead(torch.eye(3, 16), 4.0)))
    with vitreous.record_attention(net) as trace:
        net(images)
    assert trace.names[0] == "net.tower.trunk.blocks.0.attn" and len(trace.names) == 12
    maps = vitreous.relevance(net, images, 1, "rollout")
    alone = copy.deepcopy(tower.trunk)
    alone.reset_classifier(3)  # rollout asks for no class, but the call does
    theirs = vitreous.relevance(Classifier(alone), images, None, "rollout")
    assert maps.std() > 0.01
    torch.testing.assert_close(maps, theirs, rtol=0, atol=1e-5)


def test_prompts_that_cannot_be_classes_are_one_line(tmp_path: Path) -> None:
    siglip = two_towers("Siglip")
    with pytest.raises(VitreousError, match="needs its tokenizer"):
        load_model(siglip, prompts=PROMPTS)
    for wrong in ("a cat", ["a cat", "a cat"], ["a cat", ""]):
        with pytest.raises(VitreousError, match="not empty and differ"):
            load_model(siglip, prompts=wrong, tokenizer=tokenizer())
    for name in ("vit_tiny_patch16_224", nn.Flatten()):
        with pytest.raises(VitreousError, match="knows no text"):
            load_model(name, prompts=PROMPTS)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(VitreousError, match="as a model of images and text") as error:
        load_model(tmp_path, prompts=PROMPTS)
    assert "\n" not in str(error.value)


def dinov3(registers: int) -> tuple[nn.Module, nn.Module]:
    """timm's DINOv3, and the tower of transformers with the same weights under the same head."""
    twin = twin_of(
        "vit_small_patch16_dinov3",
        global_pool="token",
        num_reg_tokens=registers,
        init_values=0.5,
    )
    config = transformers.DINOv3ViTConfig(
        **COMMON,
        intermediate_size=4 * WIDTH,
        num_register_tokens=registers,
        query_bias=False,
        value_bias=False,
    )
    tower, state = transformers.DINOv3ViTModel(config), twin.state_dict()
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.up_proj",
        "mlp.fc2": "mlp.down_proj",
    }
    made = block_state(state, names, "model.layer.{}", "attention.{}_proj")
    for block in range(DEPTH):
        for scale in ("1", "2"):
            gamma = state[f"blocks.{block}.gamma_{scale}"]
            made[f"model.layer.{block}.layer_scale{scale}.lambda1"] = gamma
    for kind in ("weight", "bias"):
        made[f"norm.{kind}"] = state[f"norm.{kind}"]
        made[f"embeddings.patch_embeddings.{kind}"] = state[f"patch_embed.proj.{kind}"]
    made["embeddings.cls_token"] = state["cls_token"]
    made["embeddings.register_tokens"] = state.get("reg_token", torch.zeros(1, 0, WIDTH))
    made["embeddings.mask_token"] = tower.state_dict()["embeddings.mask_token"]
    return twin, TowerClassifier(load_exactly(tower, made), twin.head)


@pytest.mark.parametrize("size", [(SIZE, SIZE), (SIZE, 2 * SIZE)])
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov3_is_its_twin_at_any_size(registers: int, size) -> None:
    twin, net = (Classifier(n) for n in dinov3(registers))
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = twin(images)
        torch.testing.assert_close(net(images), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05 and net.num_classes == CLASSES
    own = [m for m in METHODS if "model" not in METHODS[m].needs]
    for method in [*own, "gradcam_block"]:
        values = vitreous.relevance(net, images, 2, method)
        theirs = vitreous.relevance(twin, images, 2, method)
        torch.testing.assert_close(values, theirs, rtol=0, atol=2e-5, msg=method)
        assert theirs.std() > 0.01


def test_a_tower_without_a_rule_is_refused_in_one_line(images: Tensor) -> None:
    config = transformers.SwinConfig(
        image_size=SIZE, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    net = TowerClassifier(transformers.SwinModel(config), PromptHead(torch.rand(2, 24), 1.0))
    with pytest.raises(UnsupportedModelError, match=r"SwinModel is not supported") as error:
        vitreous.relevance(Classifier(net), images)
    assert "\n" not in str(error.value)
