"""One call from pictures to relevance maps."""

from __future__ import annotations

import contextlib
import dataclasses

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitreous.attribution.base import METHODS, Context
from vitreous.attribution.maps import min_max
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.models.attention import AttentionTrace, record_attention
from vitreous.models.families import layout_of
from vitreous.models.head_tokens import head_tokens_only
from vitreous.models.modes import evaluation_mode

Target = Tensor | int | list[int] | None


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Relevance maps with the forward pass that they explain.

    Attributes:
        relevance: (B, 1, H, W) in [0, 1], each picture scaled by its own minimum and maximum.
        logits: (B, C).
        target: (B,) class that each map explains.
        constant: (B,) bool: the map was constant, and so is all zeros.
    """

    relevance: Tensor
    logits: Tensor
    target: Tensor
    constant: Tensor


def relevance(
    classifier: Classifier,
    images: Tensor,
    target: Target = None,
    method: str = "gradient_attention",
    *,
    start_layer: int = 0,
    differentiable: bool = False,
    second_order: bool = False,
) -> Tensor:
    """Compute relevance maps.

    Args:
        classifier: The model. It is left exactly as it was.
        images: (B, 3, H, W) float in [0, 1].
        target: Class to explain: one for all pictures, one each (B,), or the predicted one.
        method: Name in `vitreous.attribution.METHODS`.
        start_layer: First attention layer that counts.
        differentiable: Keep the graph, so that a loss of the maps reaches the weights. Gradients
            of attention are constants then, as in RobustViT; the model keeps its own mode.
        second_order: Make those gradients differentiable too (implies `differentiable`).

    Returns:
        (B, 1, H, W) float32 in [0, 1]; zeros where a picture's map is constant.

    Raises:
        UnsupportedModelError: If the method does not hold for this family of models.
        VitreousError: For an unknown method, a class out of range, or pictures of a wrong shape.
    """
    return explain(
        classifier,
        images,
        target,
        method,
        start_layer=start_layer,
        differentiable=differentiable,
        second_order=second_order,
    ).relevance


def explain(
    classifier: Classifier,
    images: Tensor,
    target: Target = None,
    method: str = "gradient_attention",
    *,
    start_layer: int = 0,
    differentiable: bool = False,
    second_order: bool = False,
) -> Explanation:
    """Compute relevance maps together with logits, targets and which maps were constant.

    Takes the same arguments, and raises the same errors, as `relevance`.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise VitreousError(
            "expected float pictures (B, 3, H, W) in [0, 1], found "
            f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        )
    chosen, keep = METHODS[method], differentiable or second_order
    needs = chosen.needs
    size = (images.shape[-2], images.shape[-1])
    layout = layout_of(classifier.net, size) if "attention" in needs else None
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            images = images.clone()
        stack.enter_context(torch.enable_grad())
        if not keep:
            stack.enter_context(evaluation_mode(classifier))
            images = images.detach()
        if "input_gradients" in needs and not images.requires_grad:
            images = images.detach().requires_grad_()
        if second_order:  # the only attention kernel that can be derived twice
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(head_tokens_only(classifier))
        trace = AttentionTrace()
        if "attention" in needs:
            trace = stack.enter_context(record_attention(classifier))
        logits = classifier(images)
        classes = resolve_target(logits, target)
        context = Context(
            images=images,
            score=_score(logits, classes),
            trace=trace,
            layout=layout,
            start_layer=start_layer,
            second_order=second_order,
            retain_graph=keep,
        )
        with torch.set_grad_enabled(keep):  # maps that no loss uses need no graph of their own
            maps, constant = min_max(chosen(context))
    if not keep:
        maps, logits = maps.detach(), logits.detach()
    return Explanation(maps, logits, classes, constant)


def _score(logits: Tensor, classes: Tensor) -> Tensor:
    chosen = logits.gather(1, classes[:, None])
    return chosen.to(torch.promote_types(chosen.dtype, torch.float32)).sum()


def resolve_target(logits: Tensor, target: Target) -> Tensor:
    """Turn any form of target into classes (B,), checked against the number of logits."""
    if target is None:
        return logits.detach().argmax(1)
    classes = torch.as_tensor(target, device=logits.device, dtype=torch.int64)
    if classes.ndim == 0:
        classes = classes.expand(len(logits))
    if classes.shape != (len(logits),):
        raise VitreousError(
            f"expected one target class, or one for each of the {len(logits)} pictures, found "
            f"shape {tuple(classes.shape)}"
        )
    wrong = (classes < 0) | (classes >= logits.shape[1])
    if wrong.any():
        raise VitreousError(
            f"class {int(classes[wrong][0])} does not exist: the model has {logits.shape[1]} "
            f"classes, 0 to {logits.shape[1] - 1}"
        )
    return classes


def context_of_step(
    classifier: Classifier,
    images: Tensor,
    logits: Tensor,
    trace: AttentionTrace,
    classes: Tensor,
    *,
    start_layer: int = 0,
    second_order: bool = False,
) -> Context:
    """Describe a forward pass that was made and recorded already, to be used inside a loss.

    The graph is kept, so that the same pass serves the loss's own backward.
    """
    return Context(
        images=images,
        score=_score(logits, classes),
        trace=trace,
        layout=layout_of(classifier.net, (images.shape[-2], images.shape[-1])),
        start_layer=start_layer,
        second_order=second_order,
        retain_graph=True,
    )
