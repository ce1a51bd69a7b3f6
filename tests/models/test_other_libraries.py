"""Other libraries: a timm network's weights give its logits and its maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

import vitreous
from converted import (
    CLASSES,
    CLIP_BLOCK,
    COMMON,
    DEPTH,
    HEADS,
    HUGGING_FACE_BLOCK,
    OPEN_CLIP_BLOCK,
    PATCH,
    SIZE,
    TORCH_BLOCK,
    WIDTH,
    block_state,
    load_exactly,
    seeded,
    timm_twin,
)
from helpers import TIMM_PLAIN
from vitreous import Classifier
from vitreous.attribution import METHODS
from vitreous.data.batch import Batch
from vitreous.errors import UnsupportedModelError
from vitreous.models.forward import record_forward
from vitreous.training.adversaries.fgsm import FGSM
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.step import Share, compute_loss

Pair = tuple[nn.Module, nn.Module]
SIZES = {**COMMON, "num_labels": CLASSES, "intermediate_size": 4 * WIDTH}


def ends(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Tensors outside the blocks, under other names."""
    pairs = [(f"{old}{kind}", f"{new}{kind}") for old, new in names.items() for kind in KINDS]
    return {new: state[old] for old, new in pairs if old in state}


KINDS = ("", ".weight", ".bias")


def hugging_face_vit() -> Pair:
    twin = timm_twin()
    net = transformers.ViTForImageClassification(
        transformers.ViTConfig(**SIZES, layer_norm_eps=1e-6)
    )
    state = twin.state_dict()
    made = block_state(state, HUGGING_FACE_BLOCK, "vit.layers.{}", "attention.{}_proj")
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "head": "classifier",
    }
    return twin, load_exactly(net, made | ends(state, names))


def hugging_face_deit() -> Pair:
    twin = timm_twin("deit_tiny_distilled_patch16_224")
    config = transformers.DeiTConfig(**SIZES, layer_norm_eps=1e-6)
    net = transformers.DeiTForImageClassificationWithTeacher(config)
    state = twin.state_dict()
    made = block_state(state, HUGGING_FACE_BLOCK, "deit.layers.{}", "attention.{}_proj")
    names = {
        "cls_token": "deit.embeddings.cls_token",
        "dist_token": "deit.embeddings.distillation_token",
        "pos_embed": "deit.embeddings.position_embeddings",
        "patch_embed.proj": "deit.embeddings.patch_embeddings.projection",
        "norm": "deit.layernorm",
        "head": "cls_classifier",
        "head_dist": "distillation_classifier",
    }
    return twin, load_exactly(net, made | ends(state, names))


def hugging_face_beit() -> Pair:
    twin = timm_twin("beit_base_patch16_224", use_rel_pos_bias=True, init_values=0.1)
    config = transformers.BeitConfig(
        **SIZES, use_relative_position_bias=True, layer_norm_eps=1e-6, drop_path_rate=0.0
    )
    net = transformers.BeitForImageClassification(config)
    state = twin.state_dict()
    made = block_state(state, HUGGING_FACE_BLOCK, "beit.layers.{}", "attention.{}_proj")
    for block in range(DEPTH):
        place, root = f"blocks.{block}", f"beit.layers.{block}"
        made[f"{root}.attention.q_proj.bias"] = state[f"{place}.attn.q_bias"]
        made[f"{root}.attention.v_proj.bias"] = state[f"{place}.attn.v_bias"]
        made[f"{root}.lambda_1"] = state[f"{place}.gamma_1"]
        made[f"{root}.lambda_2"] = state[f"{place}.gamma_2"]
        table = state[f"{place}.attn.relative_position_bias_table"]
        made[f"{root}.relative_position_bias.relative_position_bias_table"] = table
    names = {
        "cls_token": "beit.embeddings.cls_token",
        "patch_embed.proj": "beit.embeddings.patch_embeddings.projection",
        "fc_norm": "beit.pooler.layernorm",
        "head": "classifier",
    }
    return twin, load_exactly(net, made | ends(state, names))


class ClsAndMean(nn.Module):
    """A timm network under a head that reads the CLS token and the mean of the patches."""

    def __init__(self, net: Any, head: nn.Linear):
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.net.forward_features(x)
        patches = tokens[:, self.net.num_prefix_tokens :]
        return self.head(torch.cat([tokens[:, 0], patches.mean(1)], 1))


def dino(kind: str, registers: int) -> Pair:
    twin = timm_twin(init_values=0.5, reg_tokens=registers, no_embed_class=True)
    options = {"num_register_tokens": registers} if registers else {}
    config = getattr(transformers, f"{kind}Config")(**SIZES, **options)
    net = seeded(getattr(transformers, f"{kind}ForImageClassification")(config))
    state, base = twin.state_dict(), net.base_model_prefix
    blocks = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    made = block_state(state, blocks, base + ".encoder.layer.{}", "attention.{}_proj")
    for block in range(DEPTH):
        for scale in ("1", "2"):
            gamma = state[f"blocks.{block}.ls{scale}.gamma"]
            made[f"{base}.encoder.layer.{block}.layer_scale{scale}.lambda1"] = gamma
    names = {
        "cls_token": f"{base}.embeddings.cls_token",
        "reg_token": f"{base}.embeddings.register_tokens",
        "pos_embed": f"{base}.embeddings.position_embeddings",
        "patch_embed.proj": f"{base}.embeddings.patch_embeddings.projection",
        "norm": f"{base}.layernorm",
    }
    # timm's DINOv2 adds no position to the CLS token
    positions = F.pad(state["pos_embed"], (0, 0, 1, 0))
    made |= ends(state | {"pos_embed": positions}, names)
    own = net.state_dict()
    made |= {k: own[k] for k in own if k.startswith("classifier") or k.endswith("mask_token")}
    return ClsAndMean(twin, net.classifier), load_exactly(net, made)


def hugging_face_tower(kind: str) -> Pair:
    clip = kind == "CLIP"
    name = "vit_base_patch16_clip_224" if clip else "vit_base_patch16_siglip_224"
    # CLIP's classifier averages tokens that no norm has seen; SigLIP's those after the last one.
    twin = timm_twin(name, global_pool="avg", fc_norm=False, final_norm=not clip, act_layer="gelu")
    vision = {**COMMON, "intermediate_size": 4 * WIDTH, "hidden_act": "gelu"}
    config = getattr(transformers, f"{kind}Config")(
        text_config={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**vision, "layer_norm_eps": twin.blocks[0].norm1.eps},
        num_labels=CLASSES,
    )
    net = seeded(getattr(transformers, f"{kind}ForImageClassification")(config))
    state, own = twin.state_dict(), net.state_dict()
    made = block_state(state, CLIP_BLOCK, "vision_model.encoder.layers.{}", "self_attn.{}_proj")
    names = {
        "cls_token": "vision_model.embeddings.class_embedding",
        "pos_embed": "vision_model.embeddings.position_embedding.weight",
        "patch_embed.proj": "vision_model.embeddings.patch_embedding",
        "norm_pre": "vision_model.pre_layrnorm",
        "norm": "vision_model.post_layernorm",
        "head": "classifier",
    }
    return twin, load_exactly(net, own | made | ends(state, names))


def torchvision_vit() -> Pair:
    from torchvision.models import VisionTransformer

    twin = timm_twin()
    net = VisionTransformer(SIZE, PATCH, DEPTH, HEADS, WIDTH, 4 * WIDTH, num_classes=CLASSES)
    state = twin.state_dict()
    made = block_state(state, TORCH_BLOCK, "encoder.layers.encoder_layer_{}")
    names = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj": "conv_proj",
        "norm": "encoder.ln",
        "head": "heads.head",
    }
    return twin, load_exactly(net, made | ends(state, names))


def open_clip_tower(pool: str) -> Pair:
    from open_clip.transformer import VisionTransformer

    options = {"pool_type": "tok" if pool == "token" else "avg", "output_dim": CLASSES}
    tower = VisionTransformer(SIZE, PATCH, WIDTH, DEPTH, HEADS, 4.0, **options)
    pooled = {"global_pool": pool, "fc_norm": False, "final_norm": True}
    twin = timm_twin(
        "vit_base_patch16_clip_224", act_layer="gelu", norm_layer=nn.LayerNorm, **pooled
    )
    twin.head.bias.data.zero_()
    state = twin.state_dict()
    made = block_state(state, OPEN_CLIP_BLOCK, "transformer.resblocks.{}")
    names = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj.weight": "conv1.weight",
        "norm_pre": "ln_pre",
        "norm": "ln_post",
    }
    made |= ends(state, names) | {"proj": state["head.weight"].T}
    return twin, load_exactly(tower, made)


PAIRS: dict[str, Callable[[], Pair]] = {
    "transformers ViT": hugging_face_vit,
    "transformers DeiT": hugging_face_deit,
    "transformers BEiT": hugging_face_beit,
    "transformers CLIP": lambda: hugging_face_tower("CLIP"),
    "transformers SigLIP": lambda: hugging_face_tower("Siglip"),
    "torchvision ViT": torchvision_vit,
    "open_clip CLS": lambda: open_clip_tower("token"),
    "open_clip mean": lambda: open_clip_tower("avg"),
}
DINO = {
    "DINOv2": lambda: dino("Dinov2", 0),
    "DINOv2 with registers": lambda: dino("Dinov2WithRegisters", 4),
}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, SIZE, SIZE)


@pytest.mark.parametrize("family", [*PAIRS, *DINO])
def test_logits_are_those_of_the_twin(family, images) -> None:
    twin, net = (Classifier(n) for n in (PAIRS | DINO)[family]())
    with torch.no_grad():
        expected = twin(images)
        assert expected.std() > 0.05
        torch.testing.assert_close(net(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", sorted({*METHODS} - {"legrad", *TIMM_PLAIN}))
@pytest.mark.parametrize("family", PAIRS)
def test_maps_are_those_of_the_twin(family, method, images) -> None:
    twin, net = (Classifier(n) for n in PAIRS[family]())
    expected = vitreous.relevance(twin, images, [0, 1, 4], method)
    assert expected.std() > 0.01
    values = vitreous.relevance(net, images, [0, 1, 4], method)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", DINO)
def test_a_head_of_cls_and_patches_starts_from_both(family, images) -> None:
    """Brute force: whole matrices, from the timm twin's own recorded maps."""
    twin, net = DINO[family]()
    with vitreous.record_attention(twin) as trace:
        score = twin((images - 0.5) / 0.5)[:, 2].sum()
    gradients = torch.autograd.grad(score, trace.maps)
    tokens = trace.maps[0].shape[-1]
    matrix = torch.eye(tokens).expand(len(images), -1, -1)
    for attention, gradient in zip(trace.maps, gradients):
        matrix = matrix + (attention * gradient).clamp(min=0).mean(1) @ matrix
    prefix = tokens - (SIZE // PATCH) ** 2
    row = matrix[:, 0] + matrix[:, prefix:].mean(1)
    grid = row[:, prefix:].reshape(-1, 1, SIZE // PATCH, SIZE // PATCH)
    expected = F.interpolate(grid, size=(SIZE, SIZE), mode="bilinear")
    low, high = expected.amin((1, 2, 3), True), expected.amax((1, 2, 3), True)
    values = vitreous.relevance(Classifier(net), images, 2)
    torch.testing.assert_close(values, (expected - low) / (high - low), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["transformers ViT", "transformers BEiT"])
def test_every_kernel_of_transformers_gives_the_same_maps(family, images) -> None:
    _, net = PAIRS[family]()
    maps = []
    for kernel in ("sdpa", "eager"):
        net.set_attn_implementation(kernel)
        maps.append(vitreous.relevance(Classifier(net), images, 1))
        assert net.config._attn_implementation == kernel
    net.config._attn_implementation_internal = "flash_attention_2"  # needs a GPU to be run
    maps.append(vitreous.relevance(Classifier(net), images, 1))
    assert net.config._attn_implementation == "flash_attention_2"
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(maps[2], maps[0], rtol=0, atol=0)


def everything(net: nn.Module) -> dict[str, Any]:
    """What must not change: weights, modes, hooks, attributes of modules."""
    kept: dict[str, Any] = {}
    for name, module in net.named_modules():
        kept[f"{name}.training"] = module.training
        kept[f"{name}.hooks"] = (len(module._forward_hooks), len(module._forward_pre_hooks))
        kept[f"{name}.names"] = sorted(vars(module))
    config = getattr(net, "config", None)
    return kept | {"config": config and (config.to_dict(), config._attn_implementation)}


@pytest.mark.parametrize("family", PAIRS)
def test_the_model_is_exactly_as_it_was(family, images) -> None:
    _, net = PAIRS[family]()
    if hasattr(net, "config"):
        net.set_attn_implementation("eager")
    net.train()
    before, weights = everything(net), {k: v.clone() for k, v in net.state_dict().items()}
    for method in ("gradient_attention", "rollout"):
        vitreous.relevance(Classifier(net), images, 1, method)
    with pytest.raises(KeyError), vitreous.record_attention(net):
        net(images)
        raise KeyError
    assert everything(net) == before
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("family", ["transformers ViT", "torchvision ViT", "open_clip CLS"])
def test_linear_memory_and_whole_maps_agree(family, images) -> None:
    classifier = Classifier(PAIRS[family]()[1])
    made = record_forward(classifier, images, attention=True, inputs_suffice=True)
    assert len(made.inputs) == DEPTH and made.trace is None
    whole = record_forward(classifier, images, attention=True)
    assert len(whole.attention.maps) == DEPTH
    assert all(torch.allclose(m.sum(-1), torch.ones(())) for m in whole.attention.maps)


@dataclasses.dataclass(frozen=True)
class TwiceDerived(Relevance):
    second_order: bool = True


@pytest.mark.parametrize("relevance", [Relevance(), TwiceDerived()])
@pytest.mark.parametrize("family", ["transformers ViT", "torchvision ViT"])
def test_one_training_step_is_the_twins(family, relevance, images) -> None:
    """RobustViT's loss on pictures that FGSM perturbed, and one step of Adam."""
    masks = torch.zeros(3, 1, SIZE, SIZE)
    masks[..., 8:24, 8:24] = 1
    labels, known = torch.tensor([0, 3, 1]), torch.ones(3, dtype=torch.bool)
    objectives = {"classification": Classification(), "relevance": relevance}
    results = []
    for net in PAIRS[family]():
        classifier = Classifier(net).train()
        clean = Batch(images, labels, masks, known, torch.arange(3))
        torch.manual_seed(1)
        attacked = FGSM(epsilon=8 / 255, step_size=10 / 255)(classifier, images, labels, {}, 1.0)
        perturbed = dataclasses.replace(clean, images=attacked)
        assert (perturbed.images - images).abs().max() > 0.01
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
        step = compute_loss(classifier, classifier, perturbed, objectives, clean=images)
        step.scaled(Share.whole(perturbed)).backward()
        optimizer.step()
        with torch.no_grad():
            results.append((step.figures, perturbed.images, classifier.eval()(images)))
    (figures, fed, logits), (found, seen, after) = results
    torch.testing.assert_close(seen, fed, rtol=0, atol=1e-5)
    assert found.keys() == figures.keys()
    for name, value in figures.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(after, logits, rtol=0, atol=1e-4)


def test_what_is_not_supported_is_told_in_one_line(images) -> None:
    config = transformers.SwinConfig(
        image_size=SIZE, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    swin = Classifier(transformers.SwinForImageClassification(config))
    with pytest.raises(UnsupportedModelError, match=r"Hugging Face's Swin.* is not supported"):
        vitreous.relevance(swin, images)
