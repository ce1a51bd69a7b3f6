"""Image classifiers of Hugging Face transformers: from the hub, a folder or an instance, and back.

The image processor's size, mean, deviation and interpolation become the preprocessing, and the
configuration's `id2label` the class names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vitreous.errors import CheckpointError, VitreousError, require
from vitreous.io import atomic_path, write_json
from vitreous.models.heads import logit_count
from vitreous.models.hub import hub_or_cache
from vitreous.models.kernel import from_transformers
from vitreous.models.layout import Network
from vitreous.models.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

PREFIX = "hf:"
PROCESSOR = "preprocessor_config.json"
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
UNNAMED = "LABEL_"

Processor = dict[str, Any]
"""Settings of an image processor, as its folder has them."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network with what its folder says of it.

    Attributes:
        net: Image classifier of transformers.
        processor: Settings of its image processor; empty where there are none.
        new_head: The head is not in the weights, and starts at random.
    """

    net: Network
    processor: Processor
    new_head: bool = False


def is_config(config: object) -> bool:
    """Whether the content of a config.json is one of transformers."""
    return isinstance(config, dict) and "model_type" in config and "architecture" not in config


def load(
    source: str | os.PathLike[str],
    *,
    pretrained: bool = True,
    num_classes: int | None = None,
    **options: Any,
) -> Loaded:
    """Load an image classifier from `owner/name` on the hub, or from a folder.

    Args:
        source: Name or folder.
        pretrained: Load its weights; the configuration alone makes a random network.
        num_classes: Size of the head; a head of another size is made anew.
        **options: More settings of the configuration.

    Raises:
        VitreousError: If it cannot be had, is no image classifier, or needs unpickling.
        CheckpointError: If weights other than the head's are missing.
    """
    library = require("transformers", "transformers")
    if num_classes is not None:
        options["num_labels"] = num_classes
    offline = contextlib.nullcontext() if Path(source).is_dir() else hub_or_cache()
    try:
        with offline, _quiet(library):
            config = library.AutoConfig.from_pretrained(source, **options)
            auto = library.AutoModelForImageClassification
            if type(config) not in auto._model_mapping:
                raise _headless(source, config)
            if not pretrained:
                return Loaded(auto.from_config(config), read_processor(source))
            net, report = auto.from_pretrained(
                source,
                config=config,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                use_safetensors=True,
            )
    except (OSError, ValueError, KeyError) as error:
        line = str(error).strip().splitlines()[0]
        raise VitreousError(f"cannot load {source} as an image classifier: {line}") from error
    return Loaded(net, read_processor(source), _check_weights(report, str(source)))


def _headless(source: str | os.PathLike[str], config: Any) -> VitreousError:
    """Say of a model for which transformers has no image classifier how it becomes one."""
    return VitreousError(
        f"{source} is a '{config.model_type}', for which transformers has no image classifier: it "
        "has no head; put one on it: vitreous.models.towers.TowerClassifier(transformers.AutoModel"
        f".from_pretrained('{source}'), torch.nn.Linear({getattr(config, 'hidden_size', 'WIDTH')}, "
        "CLASSES))"
    )


def load_with_text(source: str | os.PathLike[str], **options: Any) -> tuple[Network, Any]:
    """Load a model of images and text from the hub or a folder, and its tokenizer.

    Raises:
        VitreousError: If either cannot be had, or needs unpickling.
    """
    library = require("transformers", "transformers")
    offline = contextlib.nullcontext() if Path(source).is_dir() else hub_or_cache()
    try:
        with offline, _quiet(library):
            net = library.AutoModel.from_pretrained(source, use_safetensors=True, **options)
            return net.eval(), library.AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        line = str(error).strip().splitlines()[0]
        raise VitreousError(
            f"cannot load {source} as a model of images and text: {line}"
        ) from error


@contextlib.contextmanager
def _quiet(library: Any) -> Generator[None]:
    """Keep transformers from printing a table of what it did; the caller says it in one line."""
    log = library.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def _check_weights(report: dict[str, Any], source: str) -> bool:
    """Whether the head starts anew; raises CheckpointError if more than the head does."""
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    fresh = sorted({*report["missing_keys"], *mismatched})
    rest = [key for key in fresh if "classifier" not in key]
    if rest:
        raise CheckpointError(
            f"{source}: {len(rest)} tensors beside the head are missing or of another shape "
            f"({rest[0]}); it is of another architecture than its configuration says"
        )
    if fresh:
        logger.warning("%s: the head does not fit and starts anew", source)
    return bool(fresh)


def read_processor(source: str | os.PathLike[str]) -> Processor:
    """Settings of the image processor beside a model; empty where there is none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except OSError:
        return {}
    return dict(values)


def label_names(net: Network) -> list[str]:
    """Class names of a network of transformers; empty where it has numbers in their place."""
    config: Any = getattr(net, "config", None)
    if not from_transformers(net) or not getattr(config, "id2label", None):
        return []
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    other = len(names) != logit_count(net)  # a head that was put on later
    return [] if other or all(name.startswith(UNNAMED) for name in names) else names


def input_size(net: Network) -> tuple[int, int]:
    """Height and width that a network of transformers was configured for."""
    config = getattr(net.config, "vision_config", net.config)
    size = getattr(config, "image_size", 224)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def normalization(processor: Processor) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and deviation of an image processor, for images in [0, 1]; None where it does not say.

    A processor scales bytes by its `rescale_factor`, or not at all: what 1 becomes by that is taken
    into both.
    """
    scaled = processor.get("do_rescale") is not False
    whole = 255.0 * float(processor.get("rescale_factor") or 1 / 255 if scaled else 1.0)
    mean, deviation = processor.get("image_mean"), processor.get("image_std")
    if processor.get("do_normalize") is False:
        mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if mean is None or deviation is None:
        return None
    return tuple(round(m / whole, 12) for m in mean), tuple(round(d / whole, 12) for d in deviation)


def preprocessing(processor: Processor, size: tuple[int, int]) -> Preprocessing:
    """What an image processor does to an image.

    Args:
        processor: Its settings.
        size: Input size of the network, where the settings give none.
    """
    interpolation = INTERPOLATIONS.get(processor.get("resample", 2), "bilinear")
    resized = _side(processor.get("size"), size)
    if processor.get("do_center_crop") and processor.get("crop_size"):
        crop = _side(processor["crop_size"], size)
        return Preprocessing(crop, min(crop) / min(resized), interpolation, "center")
    squash = not isinstance(processor.get("size"), dict) or "height" in processor["size"]
    return Preprocessing(resized, 1.0, interpolation, "squash" if squash else "center")


def _side(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    if not isinstance(value, dict):
        return default
    shortest = value.get("shortest_edge")
    height, width = value.get("height", shortest), value.get("width", shortest)
    return (int(height), int(width)) if height and width else default


def save(
    net: Network,
    mean: list[float],
    std: list[float],
    view: Preprocessing,
    to: Path,
    class_names: Sequence[str] = (),
) -> Path:
    """Write a folder that transformers loads: weights, configuration and image processor.

    Each file is replaced whole.
    """
    import safetensors.torch

    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    with atomic_path(to / "model.safetensors") as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
    config = net.config.to_dict() | {"architectures": [type(net).__name__]}
    class_names = class_names or label_names(net)
    class_names = class_names or [f"{UNNAMED}{index}" for index in range(logit_count(net))]
    if class_names:
        config["id2label"] = {str(index): name for index, name in enumerate(class_names)}
        config["label2id"] = {name: index for index, name in enumerate(class_names)}
    write_json(to / "config.json", config)
    codes = {name: code for code, name in INTERPOLATIONS.items()}
    height, width = view.size
    values: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": codes.get(view.interpolation, 3),
        "size": {"height": height, "width": width},
    }
    if view.crop_mode == "center":
        values["image_processor_type"] = "CLIPImageProcessor"
        values["size"] = {"shortest_edge": round(min(view.size) / view.crop_ratio)}
        values |= {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    write_json(to / PROCESSOR, values)
    return to


def takes_any_size(net: nn.Module, height: int, width: int) -> dict[str, bool]:
    """What to tell a network of transformers of images that have not its own size."""
    if not from_transformers(net) or (height, width) == input_size(net):
        return {}
    config = getattr(net, "config", None)
    fixed = getattr(config, "model_type", "") in (
        "dinov2",
        "dinov2_with_registers",
        "dinov3_vit",
    )
    return {} if fixed else {"interpolate_pos_encoding": True}
