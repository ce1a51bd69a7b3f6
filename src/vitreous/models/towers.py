"""An image tower under a head of its own: a linear one, or prompts as classes.

Towers of Hugging Face transformers (what they call the pooled output) and of open_clip (what they
return). With prompts a class is a sentence, and its logit the scaled similarity of image and text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import VitreousError, require
from vitreous.models.hugging_face import takes_any_size
from vitreous.models.kernel import from_transformers
from vitreous.models.layout import Network

Tokenizer = Callable[..., Any]


class TowerClassifier(nn.Module):
    """A tower, and a head over the features that it pools.

    Args:
        tower: A vision model of transformers with a pooled output, or open_clip's `model.visual`.
        head: From features (B, width) to logits (B, C).
    """

    def __init__(self, tower: nn.Module, head: nn.Module):
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, x: Tensor) -> Tensor:
        """Classify normalised images (B, 3, H, W); returns logits (B, C)."""
        output = self.tower(x, **takes_any_size(self.tower, x.shape[-2], x.shape[-1]))
        return self.head(getattr(output, "pooler_output", output))

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(getattr(self.head, "out_features", 0))

    @property
    def rebuilds(self) -> bool:
        """Whether `head_for` makes this head again from its weights."""
        head = self.head
        if isinstance(head, PromptHead):
            head = head.projection
            return isinstance(head, nn.Identity) or (type(head) is nn.Linear and head.bias is None)
        return type(head) is nn.Linear


class PromptHead(nn.Module):
    """Similarity with embedded prompts: `scale · cos(image, prompt) + bias`.

    Radford et al. 2021 (CLIP); with a bias, Zhai et al. 2023 (SigLIP). The prompts are constants.

    Args:
        prompts: Embedded prompts (C, D), of any length.
        scale: Factor of the cosines.
        bias: Added to them.
        projection: From the tower's features to D.
    """

    prompts: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(
        self,
        prompts: Tensor,
        scale: float,
        bias: float = 0.0,
        projection: nn.Module | None = None,
    ):
        super().__init__()
        self.register_buffer("prompts", F.normalize(prompts.detach().clone(), dim=-1))
        self.projection = projection or nn.Identity()
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("bias", torch.tensor(float(bias)))
        self.out_features = len(prompts)

    def forward(self, features: Tensor) -> Tensor:
        """Compare features (B, width) with each prompt; returns logits (B, C)."""
        embedded = F.normalize(self.projection(features), dim=-1)
        return self.scale * embedded @ self.prompts.to(embedded.dtype).T + self.bias


def head_for(
    width: int, classes: int | None = None, state: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """A head for a tower: the one whose weights will be loaded, or a new linear one.

    Args:
        width: Features of the tower.
        classes: How many are wanted; those of the weights by default.
        state: Weights of a `TowerClassifier`.

    Raises:
        VitreousError: If neither says how many classes there are.
    """
    stored = {k.rpartition("head.")[2]: v for k, v in (state or {}).items() if "head." in k}
    prompts, weight = stored.get("prompts"), stored.get("weight")
    if prompts is not None and classes in (None, len(prompts)):
        shape = stored.get("projection.weight")
        projection = None if shape is None else nn.Linear(width, len(shape), bias=False)
        return PromptHead(torch.ones_like(prompts), 1.0, 0.0, projection)
    if classes is None and weight is None:
        raise VitreousError("the weights hold no head; say how many classes a new one has")
    return nn.Linear(width, len(weight) if classes is None and weight is not None else classes or 0)


def with_prompts(
    model: Network, prompts: Sequence[str], tokenizer: Tokenizer | None = None
) -> TowerClassifier:
    """The image tower of a CLIP or SigLIP model, under a head whose classes are prompts.

    Args:
        model: `CLIPModel` or `SiglipModel` of transformers, or open_clip's `CLIP` and
            `CustomTextCLIP`.
        prompts: A sentence for each class.
        tokenizer: From sentences to numbers; open_clip's own where a model of it brings none.

    Raises:
        VitreousError: If the model has no tower of text, or no tokenizer is known.
    """
    if isinstance(prompts, str) or not all(prompts) or len(set(prompts)) < len(prompts):
        raise VitreousError(
            "prompts are sentences that are not empty and differ: one for each class"
        )
    if from_transformers(model) and _knows_text(model):
        return _transformers(model, prompts, tokenizer)
    if _knows_text(model):
        return _open_clip(model, prompts, tokenizer)
    raise VitreousError(
        f"{type(model).__name__} knows no text, so prompts cannot be its classes; give a CLIP or "
        "SigLIP model of transformers or open_clip"
    )


def _knows_text(model: Network) -> bool:
    if from_transformers(model):
        return hasattr(model, "get_text_features")
    return type(model).__module__.startswith("open_clip.") and hasattr(model, "encode_text")


def without_classes(net: Network) -> str | None:
    """Why a network answers with no classes, and what gives it some; None where it has a head."""
    kind = type(net).__name__
    if _knows_text(net):
        return (
            f"{kind} compares images with texts and has no classes of its own: give prompts, a "
            "sentence for each class (vitreous.load_model(…, prompts=[…]), --prompts)"
        )
    if from_transformers(net) and kind.endswith(("Model", "VisionTransformer")):
        return (
            f"{kind} has no head: put one on it, vitreous.models.towers.TowerClassifier(model, "
            f"torch.nn.Linear({getattr(net.config, 'hidden_size', 'WIDTH')}, CLASSES))"
        )
    return None


def _transformers(
    model: Network, prompts: Sequence[str], tokenizer: Tokenizer | None
) -> TowerClassifier:
    if tokenizer is None:
        raise VitreousError(f"{type(model).__name__} needs its tokenizer to read prompts")
    tokens = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=model.config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    # SigLIP was trained on padded sentences without a mask; CLIP's is causal, and changes nothing.
    with torch.no_grad():
        embedded = model.get_text_features(tokens["input_ids"].to(model.device))
    embedded = getattr(embedded, "pooler_output", embedded)
    projection = getattr(model, "visual_projection", None)
    return TowerClassifier(model.vision_model, _head(model, embedded, projection))


def _open_clip(
    model: Network, prompts: Sequence[str], tokenizer: Tokenizer | None
) -> TowerClassifier:
    if tokenizer is None:
        tokenizer = require("open_clip", "open_clip").tokenize
    with torch.no_grad():
        embedded = model.encode_text(tokenizer(list(prompts)).to(model.logit_scale.device))
    return TowerClassifier(model.visual, _head(model, embedded))


def _head(model: Network, prompts: Tensor, projection: nn.Module | None = None) -> PromptHead:
    """Prompts with the scale and the bias that the model has learned."""
    bias = getattr(model, "logit_bias", None)
    scale = math.exp(model.logit_scale.item())
    return PromptHead(prompts, scale, 0.0 if bias is None else bias.item(), projection)
