"""The same random weights in two libraries: a timm network and its twin, by renaming."""

from __future__ import annotations

import re

import timm
import torch
from torch import Tensor, nn

SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 32, 8, 24, 3, 3, 5
COMMON = {
    "image_size": SIZE,
    "patch_size": PATCH,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
}
TIMM = {
    "img_size": SIZE,
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": DEPTH,
    "num_heads": HEADS,
    "num_classes": CLASSES,
}


def seeded(net: nn.Module, factor: float = 2.0) -> nn.Module:
    """Random weights that leave nothing at zero and attention far from uniform."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        spread = factor / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.2
        centre = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
        parameter.data.copy_(centre + spread * noise)
    return net.eval()


def timm_twin(name: str = "vit_tiny_patch16_224", **options: object) -> nn.Module:
    return seeded(timm.create_model(name, **{**TIMM, **options}))


HUGGING_FACE_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
CLIP_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
TORCH_BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "self_attention.out_proj",
    "attn.qkv": "self_attention.in_proj_",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
OPEN_CLIP_BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attn.proj": "attn.out_proj",
    "attn.qkv": "attn.in_proj_",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def block_state(
    state: dict[str, Tensor], names: dict[str, str], place: str, split: str = ""
) -> dict[str, Tensor]:
    """The blocks of a timm state under other names.

    `place` is where block {} lies; with `split` the joined projection becomes three of that name
    (`attention.{}_proj`).
    """
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        matched = re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", key)
        if matched is None:
            continue
        block, part, kind = matched.groups()
        root = place.format(block)
        if part == "attn.qkv" and split:
            for letter, piece in zip("qkv", value.chunk(3)):
                made[f"{root}.{split.format(letter)}.{kind}"] = piece
        elif part in names:
            joint = "" if names[part].endswith("_") else "."
            made[f"{root}.{names[part]}{joint}{kind}"] = value
    return made


def load_exactly(net: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """Load a state that must have every tensor of the network."""
    net.load_state_dict({k: v.reshape(net.state_dict()[k].shape) for k, v in state.items()})
    return net.eval()
