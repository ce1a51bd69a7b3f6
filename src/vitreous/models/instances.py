"""What a network says of itself when it is given as it is: size, normalization, classes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from vitreous.models import hugging_face
from vitreous.models.input_size import own_size
from vitreous.models.kernel import from_transformers
from vitreous.models.layout import Network
from vitreous.models.preprocessing import Architecture, Preprocessing

logger = logging.getLogger(__name__)

HALF = (0.5, 0.5, 0.5)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPEN_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Size = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Description:
    """What is needed to feed a network and to name what it says; see `Classifier`."""

    mean: Sequence[float]
    std: Sequence[float]
    preprocessing: Preprocessing
    class_names: list[str] = dataclasses.field(default_factory=list)
    architecture: Architecture | None = None


def describe_network(
    net: nn.Module, image_size: Size | None = None, processor: dict[str, Any] | None = None
) -> Description:
    """Describe a network of timm, Hugging Face transformers, torchvision or open_clip.

    Of other networks, and where transformers gives no image processor, the normalization is
    unknown: 0.5 is taken for both, and that is logged.

    Args:
        net: The network.
        image_size: Input size in pixels, where it is not the network's own.
        processor: Settings of transformers' image processor.
    """
    tower = getattr(net, "tower", None)
    if isinstance(tower, nn.Module) and from_transformers(tower):
        return _transformers(tower, image_size, processor)
    if from_transformers(net):
        return _transformers(net, image_size, processor)
    if getattr(net, "pretrained_cfg", None):
        return _timm(net, image_size)
    parts = list(net.modules())
    towers = [x for x in parts if type(x).__module__.startswith("open_clip.")]
    if towers:
        return _open_clip(towers, image_size)
    if type(net).__module__.startswith("torchvision."):
        size = _pair(image_size or getattr(net, "image_size", 224))
        return Description(*IMAGENET, Preprocessing(size, 0.875, "bilinear"))
    _say_unknown(net)
    return Description(HALF, HALF, Preprocessing(_pair(image_size or 224)))


def _transformers(
    net: Network, image_size: Size | None, processor: dict[str, Any] | None
) -> Description:
    if processor is None and (source := getattr(net.config, "_name_or_path", "")):
        processor = hugging_face.read_processor(source)
    settings = dict(processor or {})
    view = hugging_face.preprocessing(settings, hugging_face.input_size(net))
    if image_size is not None:
        view = dataclasses.replace(view, size=_pair(image_size))
    stated = hugging_face.normalization(settings)
    if stated is None:
        _say_unknown(net)
    mean, std = stated or (HALF, HALF)
    return Description(mean, std, view, hugging_face.label_names(net))


def _open_clip(parts: Sequence[Network], image_size: Size | None) -> Description:
    """What the image tower among modules of open_clip says; in a whole CLIP it is not the first."""
    visual = next((part for part in parts if hasattr(part, "image_size")), parts[0])
    said = getattr(visual, "preprocess_cfg", None) or {}
    mean = said.get("mean") or getattr(visual, "image_mean", None) or OPEN_CLIP[0]
    std = said.get("std") or getattr(visual, "image_std", None) or OPEN_CLIP[1]
    size = _pair(image_size or getattr(visual, "image_size", 224))
    mode = "squash" if said.get("resize_mode") == "squash" else "center"
    interpolation = said.get("interpolation", "bicubic")
    known = interpolation if interpolation in ("bicubic", "bilinear") else "bicubic"
    return Description(mean, std, Preprocessing(size, 1.0, known, mode))


def _timm(net: Network, image_size: Size | None) -> Description:
    config = resolve_model_data_config(net)
    size = _pair(image_size or own_size(net) or config["input_size"][1:])
    view = Preprocessing(size, config["crop_pct"], config["interpolation"], config["crop_mode"])
    return Description(config["mean"], config["std"], view)


def _say_unknown(net: nn.Module) -> None:
    logger.warning(
        "%s does not say its normalization: 0.5 is taken for mean and deviation; give another "
        "with Classifier(net, mean, std)",
        type(net).__name__,
    )


def _pair(size: Size | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
