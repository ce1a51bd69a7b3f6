"""One call from images to relevance maps."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import weakref
from collections.abc import Generator, Sequence

import torch
from torch import Tensor

from vitreous.attribution.base import METHODS, Method, RecordedPass, require_fit
from vitreous.attribution.maps import min_max
from vitreous.errors import UnsupportedModelError, VitreousError, nearest
from vitreous.models import Classifier
from vitreous.models.attention import AttentionTrace
from vitreous.models.attention_inputs import inputs_pay
from vitreous.models.class_words import class_words
from vitreous.models.families import layout_of
from vitreous.models.forward import ForwardPass, gradients_enabled, record_forward
from vitreous.models.heads import is_headless
from vitreous.models.layout import Layout
from vitreous.models.modes import evaluation_mode

logger = logging.getLogger(__name__)
_told: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
Target = Tensor | int | str | Sequence[int | str] | None


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Relevance maps with the forward pass that they explain.

    Attributes:
        relevance: (B, 1, H, W) in [0, 1], each image scaled by its own minimum and maximum.
        logits: (B, C).
        target: (B,) class that each map explains.
        constant: (B,) bool: the map was constant, and so is all zeros.

    Examples:
        >>> import vitreous
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> explained = explain(model, torch.rand(2, 3, 32, 32), target=7)
        >>> explained.target.tolist(), explained.constant.tolist()
        ([7, 7], [False, False])
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
    against: Target = None,
    start_layer: int = 0,
    differentiable: bool = False,
    second_order: bool = False,
) -> Tensor:
    """Compute relevance maps.

    Args:
        classifier: The model. It is left exactly as it was.
        images: (B, 3, H, W) float in [0, 1].
        target: Class to explain: one for all images, one each (B,), or the predicted one; by
            number or by name.
        method: Name in `vitreous.attribution.METHODS`.
        against: A second class, given as `target` is: what is explained is the difference of the
            two logits.
        start_layer: First attention layer that counts.
        differentiable: Keep the graph, so that a loss of the maps reaches the weights. Gradients
            of attention are constants then, as in RobustViT; the model keeps its own mode.
        second_order: Make those gradients differentiable too (implies `differentiable`).

    Returns:
        (B, 1, H, W) float32 in [0, 1]; zeros where an image's map is constant.

    Raises:
        UnsupportedModelError: If the method does not hold for this family of models, or its maps
            cannot be derived and are asked to be.
        VitreousError: For an unknown method, a class out of range, or images of a wrong shape.

    Examples:
        >>> import vitreous
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> maps = relevance(model, torch.rand(2, 3, 32, 32), target=3, method="rollout")
        >>> maps.shape, bool((maps >= 0).all() and (maps <= 1).all())
        (torch.Size([2, 1, 32, 32]), True)
    """
    return explain(
        classifier,
        images,
        target,
        method,
        against=against,
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
    against: Target = None,
    start_layer: int = 0,
    differentiable: bool = False,
    second_order: bool = False,
) -> Explanation:
    """Compute relevance maps together with logits, targets and which maps were constant.

    Takes the same arguments, and raises the same errors, as `relevance`.

    Examples:
        >>> import vitreous
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> explained = explain(model, torch.rand(2, 3, 32, 32))
        >>> explained.relevance.shape, explained.logits.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 1000]))
    """
    asked = _Asked(target, against, start_layer, differentiable or second_order, second_order)
    return _explain(classifier, images, (method,), asked)[method]


def explain_all(
    classifier: Classifier,
    images: Tensor,
    target: Target = None,
    methods: Sequence[str] = ("gradient_attention",),
    *,
    against: Target = None,
    start_layer: int = 0,
) -> dict[str, Explanation]:
    """Explain by several methods; those that need the same recorded pass share it.

    Takes the same arguments, and raises the same errors, as `explain`; the maps are the same too,
    at less cost.

    Args:
        classifier: The model. It is left exactly as it was.
        images: (B, 3, H, W) float in [0, 1].
        target: Class to explain.
        methods: Names in `vitreous.attribution.METHODS`.
        against: A second class.
        start_layer: First attention layer that counts.

    Returns:
        Method → its explanation, in the order of `methods`.

    Examples:
        >>> import vitreous
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> images, methods = torch.rand(2, 3, 32, 32), ("rollout", "grad_cam", "legrad")
        >>> {name: tuple(e.relevance.shape) for name, e in explain_all(
        ...     model, images, methods=methods).items()}
        {'rollout': (2, 1, 32, 32), 'grad_cam': (2, 1, 32, 32), 'legrad': (2, 1, 32, 32)}
    """
    return _explain(classifier, images, methods, _Asked(target, against, start_layer))


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What is explained, from which layer on, and whether a loss shall use the maps."""

    target: Target
    against: Target
    start_layer: int
    keep: bool = False
    second_order: bool = False


def _explain(
    classifier: Classifier, images: Tensor, methods: Sequence[str], asked: _Asked
) -> dict[str, Explanation]:
    """Explain by methods, one forward pass for all that need the same of it."""
    check_images(images)
    _tell_of_features(classifier)
    groups: dict[tuple[bool, bool, bool], list[str]] = {}
    for name in methods:
        _check_derived(name, asked.keep)
        require_fit(name, classifier.net, (images.shape[-2], images.shape[-1]))
        groups.setdefault(_needed(METHODS[name], classifier, images), []).append(name)
    done: dict[str, Explanation] = {}
    for needed, names in groups.items():
        done |= _explain_by_one_pass(classifier, images, names, needed, asked)
    return {name: done[name] for name in methods}


def _tell_of_features(classifier: Classifier) -> None:
    """Say once of a network without a head that no class is explained."""
    net = classifier.net
    if is_headless(net) and net not in _told:
        _told.add(net)
        logger.warning(
            "%s has no head (num_classes=0): what is explained is one feature and no class, "
            "but by methods that ask for none (rollout, raw_attention)",
            type(net).__name__,
        )


def _check_derived(name: str, keep: bool) -> None:
    if keep and "model" in METHODS[name].needs:
        raise UnsupportedModelError(
            f"maps of {name} cannot be derived: the method makes passes of its own; these can "
            f"be: {', '.join(n for n in METHODS if 'model' not in METHODS[n].needs)}"
        )


def _needed(method: Method, classifier: Classifier, images: Tensor) -> tuple[bool, bool, bool]:
    """Whether a method needs attention, whether its inputs serve, and the images' gradient."""
    suffice = "attention_inputs" in method.needs and inputs_pay(classifier.net, images)
    return "attention" in method.needs, suffice, "input_gradients" in method.needs


def _explain_by_one_pass(
    classifier: Classifier,
    images: Tensor,
    methods: Sequence[str],
    needed: tuple[bool, bool, bool],
    asked: _Asked,
) -> dict[str, Explanation]:
    """Explain by methods that need the same of a pass."""
    attention, suffice, input_gradient = needed
    size, keep = (images.shape[-2], images.shape[-1]), asked.keep
    layout = layout_of(classifier.net, size) if attention else None
    done = {}
    with _borrowed(classifier, keep), torch.set_grad_enabled(attention or input_gradient):
        made = record_forward(
            classifier,
            images if keep else images.detach(),
            attention=attention,
            inputs_suffice=suffice,
            weight_gradients=keep,
            input_gradient=input_gradient,
            second_order=asked.second_order,
        )
        names = classifier.class_names
        classes = resolve_target(made.logits, asked.target, names)
        against = asked.against
        other = None if against is None else resolve_target(made.logits, against, names)
        recorded = recorded_pass(
            made,
            classes,
            layout,
            asked.start_layer,
            asked.second_order,
            keep or len(methods) > 1,
            other,
            classifier,
        )
        for name in methods:
            with torch.set_grad_enabled(keep):  # maps that no loss uses need no graph of their own
                maps, constant = min_max(METHODS[name](recorded))
            logits = made.logits if keep else made.logits.detach()
            done[name] = Explanation(maps if keep else maps.detach(), logits, classes, constant)
    return done


@contextlib.contextmanager
def _borrowed(classifier: Classifier, keep: bool) -> Generator[None]:
    """Make graphs; in evaluation mode, unless a loss shall use them."""
    with gradients_enabled(), contextlib.nullcontext() if keep else evaluation_mode(classifier):
        yield


def recorded_pass(
    made: ForwardPass,
    classes: Tensor,
    layout: Layout | None,
    start_layer: int = 0,
    second_order: bool = False,
    retain_graph: bool = True,
    against: Tensor | None = None,
    classifier: Classifier | None = None,
) -> RecordedPass:
    """Describe a forward pass to a relevance method.

    Args:
        made: The pass, recorded if the method needs attention.
        classes: (B,) class of each image to explain.
        layout: How tokens mix in the model, if the method needs attention.
        start_layer: First attention layer that counts.
        second_order: Make gradients differentiable themselves.
        retain_graph: Keep the graph, so that the same pass serves the backward of a loss.
        against: (B,) class of each image whose logit is taken away.
        classifier: The model, for methods that make passes of their own.

    Examples:
        >>> import vitreous
        >>> from vitreous.attribution import METHODS
        >>> from vitreous.models.forward import record_forward
        >>> model = vitreous.load_model("vit_tiny_patch16_224", pretrained=False, image_size=32)
        >>> made = record_forward(model, torch.rand(2, 3, 32, 32), attention=True)
        >>> layout = layout_of(model.net, (32, 32))
        >>> recorded = recorded_pass(made, torch.tensor([3, 5]), layout)
        >>> METHODS["rollout"](recorded).shape
        torch.Size([2, 1, 32, 32])
    """
    score_of = functools.partial(_scores, classes=classes, against=against)
    with gradients_enabled():
        score = score_of(made.logits).sum()
    return RecordedPass(
        made.images,
        score,
        made.trace or AttentionTrace(),
        layout,
        start_layer,
        second_order,
        retain_graph,
        made.inputs,
        classifier,
        score_of,
        made.halves,
    )


def check_images(images: Tensor) -> None:
    """Refuse what is no batch of float images (B, 3, H, W); raises VitreousError."""
    if images.ndim == 4 and images.shape[1] == 3 and images.is_floating_point():
        return
    raise VitreousError(
        "expected float pictures (B, 3, H, W) in [0, 1], found "
        f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
    )


def _scores(logits: Tensor, classes: Tensor, against: Tensor | None) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = logits.gather(1, classes[:, None])[:, 0]
    return chosen if against is None else chosen - logits.gather(1, against[:, None])[:, 0]


def class_number(name: str, class_names: Sequence[str]) -> int:
    """The class of a name, in words or as the dataset has it; the case of letters does not count.

    ImageNet's classes have several words (`tabby, tabby cat`): any of them names the class.

    Raises:
        VitreousError: If no class, or more than one, has that name.
    """
    wanted = name.strip().casefold()
    spelled = [{n.casefold(), class_words(n).casefold()} for n in class_names]
    for split in (False, True):
        numbers = [
            number
            for number, names in enumerate(spelled)
            if wanted in ({w.strip() for n in names for w in n.split(",")} if split else names)
        ]
        if len(numbers) == 1:
            return numbers[0]
        if numbers:
            listed = ", ".join(map(str, numbers[:5]))
            raise VitreousError(f"several classes are called '{name}': give a number ({listed})")
    raise VitreousError(f"no class is called '{name}'; {nearest(name, class_names)}")


def resolve_target(logits: Tensor, target: Target, class_names: Sequence[str] = ()) -> Tensor:
    """Turn any form of target into classes (B,), checked against the number of logits."""
    if target is None:
        return logits.detach().argmax(1)
    if isinstance(target, bool | float) or not isinstance(target, Tensor | int | Sequence):
        raise VitreousError(
            f"target: expected a class by number or name, or one for each image; found {target!r}"
        )
    if isinstance(target, str):
        target = class_number(target, class_names)
    elif not isinstance(target, Tensor | int):
        target = [class_number(t, class_names) if isinstance(t, str) else int(t) for t in target]
    classes = torch.as_tensor(target, device=logits.device, dtype=torch.int64)
    if classes.ndim == 0:
        classes = classes.expand(len(logits))
    if classes.shape != (len(logits),):
        raise VitreousError(
            f"expected one target class, or one for each of the {len(logits)} images, found "
            f"shape {tuple(classes.shape)}"
        )
    wrong = (classes < 0) | (classes >= logits.shape[1])
    if wrong.any():
        raise VitreousError(
            f"class {int(classes[wrong][0])} does not exist: the model has {logits.shape[1]} "
            f"classes, 0 to {logits.shape[1] - 1}"
        )
    return classes
