"""Models by name, from weights or from a folder; and how one is written."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import timm.data
import torch
from torch import Tensor, nn

from vitreous.errors import CheckpointError, VitreousError, nearest
from vitreous.io import check_path, read_json, write_json
from vitreous.models import hugging_face
from vitreous.models.checkpoints import PREFIXES, load_weights, read_weights
from vitreous.models.classifier import HALF, Classifier
from vitreous.models.heads import logit_count
from vitreous.models.hub import fetched
from vitreous.models.input_size import check_own_size
from vitreous.models.instances import Description, describe_network
from vitreous.models.kernel import from_transformers
from vitreous.models.libraries import Built, Wanted, architecture_of, build_network, library_of
from vitreous.models.preprocessing import Architecture
from vitreous.models.stored import Stored, read_stored
from vitreous.models.towers import Tokenizer, with_prompts

logger = logging.getLogger(__name__)

HEAD_WEIGHTS = (
    "head.weight",
    "head.0.weight",
    "head.fc.weight",
    "fc.weight",
    "classifier.weight",
    "heads.head.weight",
)
FIXED = {
    "half": (HALF, HALF),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
NO_WEIGHTS = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".yaml", ".yml", ".json", ".csv"}


def load_model(
    name: str | os.PathLike[str] | nn.Module,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    pretrained: bool = True,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    normalization: Literal["model", "half", "imagenet"] = "model",
    class_names: Sequence[str] = (),
    prompts: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    device: str | torch.device = "cpu",
    **options: Any,
) -> Classifier:
    """Load a classifier.

    Args:
        name: A timm name with or without tag, `hf_hub:…`, `local-dir:…`, a folder written by
            `save_model` or by a run, or a checkpoint file that names its architecture (those of
            CrossViT Adv+Rot do); `hf:owner/name` or a folder of Hugging Face transformers;
            `torchvision:vit_b_16`; `open_clip:ViT-B-32/TAG`; or a network of these libraries,
            which is used as it is.
        checkpoint: Weights to load into the architecture `name`: safetensors or a pickle, which
            is read weights-only; the state may lie under a key and carry `module.` prefixes.
        pretrained: Use timm's weights where no checkpoint is given. They are fetched if they are
            not in the local cache.
        num_classes: Size of the head; a head of another size is made anew.
        image_size: Input size in pixels; position embeddings are resized.
        normalization: `model`: the mean and standard deviation that come with the weights;
            `half`: 0.5 for both, as RobustViT's published scripts use for every model; `imagenet`:
            ImageNet's, as CrossViT Adv+Rot's published scripts use for every model.
        class_names: Names of the classes; ImageNet's are filled in for 1000 classes.
        prompts: Sentences that become the classes, for CLIP and SigLIP models of transformers and
            open_clip.
        tokenizer: Reads the prompts, where a network of transformers is given as it is.
        device: Where to put the model.
        **options: More arguments for the architecture, for example `embed_dim=96`.

    Returns:
        The classifier in evaluation mode.

    Raises:
        VitreousError: For an unknown name, or weights that cannot be had offline.
        CheckpointError: For weights that cannot be read or that do not fit.

    Examples:
        >>> model = load_model("vit_tiny_patch16_224", pretrained=False, num_classes=5)
        >>> model(torch.rand(2, 3, 224, 224)).shape
        torch.Size([2, 5])
    """
    if isinstance(name, nn.Module):
        if checkpoint is not None or num_classes is not None or options:
            raise VitreousError("a network is used as it is; options are for what is built by name")
        described = describe_network(name, image_size)
        net = with_prompts(name, prompts, tokenizer) if prompts else name
        return _described(net, described, normalization, class_names or prompts, device)
    check_path(name, "model")
    if (source := _hugging_face_source(str(name))) is not None:
        if checkpoint is not None:
            raise VitreousError(f"{source} brings its weights; give no checkpoint beside it")
        if prompts:
            if num_classes is not None:
                raise VitreousError(
                    "prompts are the classes; give no number of classes beside them"
                )
            both, words = hugging_face.load_with_text(source, **options)
            described = describe_network(both, image_size, hugging_face.read_processor(source))
            net = with_prompts(both, prompts, words)
            return _described(
                net, described, normalization, class_names or prompts, device, str(name)
            )
        loaded = hugging_face.load(
            source, pretrained=pretrained, num_classes=num_classes, **options
        )
        described = describe_network(loaded.net, image_size, loaded.processor)
        return _described(
            loaded.net, described, normalization, class_names, device, str(name), loaded.new_head
        )
    spec, state, stored = _resolve(str(name), checkpoint)
    if prompts and num_classes is not None:
        raise VitreousError("prompts are the classes; give no number of classes beside them")
    given = {
        "num_classes": num_classes if state is None else num_classes or _head_size(state),
        "img_size": image_size,
    }
    arguments = {**stored.model_args, **options}
    arguments |= {key: value for key, value in given.items() if value is not None}
    wanted = Wanted(spec, arguments, pretrained and state is None, state, tuple(prompts))
    built = _timm(wanted) if library_of(spec) is None else build_network(spec, wanted)
    new_head = built.new_head
    if state is not None:
        new_head = load_weights(built.net, state, source=str(checkpoint or name))
    size = image_size or arguments.get("img_size") or stored.image_size
    described = built.description or describe_network(built.net, size)
    mean, std = FIXED.get(
        normalization, (stored.mean or described.mean, stored.std or described.std)
    )
    classifier = Classifier(
        built.net,
        mean,
        std,
        name=stored.name or spec,
        preprocessing=stored.seen(described.preprocessing, size),
        class_names=(
            list(class_names) or list(prompts) or stored.class_names or _imagenet_names(built.net)
        ),
        architecture=built.architecture,
        new_head=new_head,
    )
    return classifier.to(device).eval()


def _timm(wanted: Wanted) -> Built:
    """Build a network of timm's by name."""
    wanted.without_text()
    arguments = dict(wanted.arguments)
    net = _create(wanted.name, wanted.pretrained, arguments)
    check_own_size(net)
    architecture: Architecture = {
        "architecture": _base_name(wanted.name, net),
        "model_args": arguments,
    }
    return Built(net, architecture, new_head=_has_new_head(net, wanted.pretrained))


def _hugging_face_source(name: str) -> str | None:
    """The name or folder that transformers loads, where `name` is one of theirs."""
    if name.startswith(hugging_face.PREFIX):
        return name.removeprefix(hugging_face.PREFIX)
    config = Path(name).expanduser() / "config.json"
    theirs = config.is_file() and hugging_face.is_config(read_json(config))
    return str(config.parent) if theirs else None


def _described(
    net: nn.Module,
    described: Description,
    normalization: str,
    class_names: Sequence[str],
    device: str | torch.device,
    name: str = "",
    new_head: bool = False,
) -> Classifier:
    mean, std = FIXED.get(normalization, (described.mean, described.std))
    classifier = Classifier(
        net,
        mean,
        std,
        name=Path(name).name or type(net).__name__,
        preprocessing=described.preprocessing,
        class_names=list(class_names) or described.class_names or _imagenet_names(net),
        architecture=described.architecture,
        new_head=new_head,
    )
    return classifier.to(device).eval()


def _resolve(
    name: str, checkpoint: str | os.PathLike[str] | None
) -> tuple[str, dict[str, Tensor] | None, Stored]:
    """Find what to build: timm's name, weights to load over it, and what a folder stores of it."""
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if not name:
        raise VitreousError("the model has no name: give a run folder, weights or a timm name")
    state = read_weights(checkpoint).state if checkpoint is not None else None
    if path.is_dir():
        architecture, stored = read_stored(path)
        if state is None:
            state = read_weights(path / "model.safetensors").state
        return architecture, state, stored
    if path.is_file():
        if path.suffix.lower() in NO_WEIGHTS:
            raise VitreousError(f"{path} is no model: give a run folder, weights or a timm name")
        weights = read_weights(path)
        if weights.architecture is None:
            raise CheckpointError(
                f"{path} does not say its architecture; give it as the name and the file as "
                "checkpoint, one at a time, for example vit_base_patch16_224 with --checkpoint FILE"
            )
        return weights.architecture, weights.state, Stored(name=path.stem)
    hub = name.startswith(("hf_hub:", "hf-hub:")) or library_of(name) is not None
    folder = name.startswith("local-dir:") or "/" in name
    if (folder and not hub) or path.suffix.lower() in {
        ".safetensors",
        ".pth",
        ".pt",
        ".tar",
        *NO_WEIGHTS,
    }:
        raise CheckpointError(f"no model at {path}")
    return name, state, Stored()


def _create(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    if not name.startswith(("hf_hub:", "hf-hub:")):
        base, _, tag = name.partition(".")
        if base not in timm.list_models(base):
            raise VitreousError(f"unknown model '{base}'; {nearest(base, timm.list_models())}")
        asked = pretrained or tag
        tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{base}.*")] if asked else []
        if tag and tag not in tags:
            raise VitreousError(f"unknown weights '{tag}' of {base}; {nearest(tag, tags)}")
        if pretrained and not tags:
            raise VitreousError(
                f"timm has no weights for {base}; give a checkpoint, or --model.pretrained false"
            )
    try:
        with fetched(name) if pretrained else contextlib.nullcontext():
            return timm.create_model(name, pretrained=pretrained, **arguments)
    except VitreousError:
        raise
    except (
        OSError,
        RuntimeError,
        TypeError,
        AssertionError,
        ValueError,
        ArithmeticError,
        LookupError,
    ) as error:
        raise VitreousError(f"cannot build {name} with {arguments}: {error}") from error


def save_model(classifier: Classifier, folder: str | os.PathLike[str]) -> Path:
    """Write `config.json` and `model.safetensors`, which timm loads as `local-dir:FOLDER`.

    A classifier of transformers becomes a folder that transformers loads, image processor
    included. Networks of torchvision and of open_clip, and towers of transformers under a linear
    head or under prompts, become a folder that `load_model` reads. A network that was given as it
    is counts as known if arguments can be read off it that build one like it.

    Other files in the folder stay; each of the two is replaced whole.

    Raises:
        VitreousError: If it is not known how the network is built again, or the disk is full.

    Examples:
        >>> import tempfile
        >>> model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, depth=1)
        >>> folder = save_model(model, tempfile.mkdtemp())
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
    """
    import safetensors.torch

    from vitreous.io import atomic_path

    if from_transformers(classifier.net):
        mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
        view = classifier.preprocessing
        return hugging_face.save(
            classifier.net, mean, std, view, Path(folder), classifier.class_names
        )
    architecture = classifier.architecture or architecture_of(classifier.net)
    if architecture is None:
        raise VitreousError(
            f"{classifier.name} was given as it is, and how it is built is not known; save "
            "classifier.net.state_dict() instead, or load it by its name with vitreous.load_model"
        )
    target = Path(folder)
    preprocessing = classifier.preprocessing
    arguments = architecture["model_args"]
    config = {
        "architecture": architecture["architecture"],
        "num_classes": classifier.num_classes,
        "num_features": getattr(classifier.net, "num_features", None),
        "model_args": arguments,
        "label_names": classifier.class_names or None,
        "vitreous_name": classifier.name,
        "pretrained_cfg": {
            "mean": classifier.mean.flatten().tolist(),
            "std": classifier.std.flatten().tolist(),
            "input_size": [3, *preprocessing.size],
            "crop_pct": preprocessing.crop_ratio,
            "interpolation": preprocessing.interpolation,
            "crop_mode": preprocessing.crop_mode,
            "num_classes": classifier.num_classes,
        },
    }
    state = {k: v.detach().cpu().contiguous() for k, v in classifier.net.state_dict().items()}
    with atomic_path(target / "model.safetensors") as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"format": "pt"})
    write_json(target / "config.json", {k: v for k, v in config.items() if v is not None})
    return target


def _base_name(spec: str, net: nn.Module) -> str:
    if spec.startswith(("hf_hub:", "hf-hub:")):
        return str(getattr(getattr(net, "pretrained_cfg", None), "architecture", spec))
    return spec.partition(".")[0]


def _has_new_head(net: nn.Module, pretrained: bool) -> bool:
    """Whether a head is not that of timm's weights; told where it is."""
    own = getattr(net, "num_classes", None)
    stored = (getattr(net, "pretrained_cfg", None) or {}).get("num_classes")
    fresh = pretrained and bool(own) and bool(stored) and own != stored
    if fresh:
        logger.warning("the weights have %s classes, not %s: the head starts anew", stored, own)
    return fresh


def _head_size(state: dict[str, Tensor]) -> int | None:
    for key in HEAD_WEIGHTS:
        for prefix in PREFIXES:
            if prefix + key in state:
                return int(state[prefix + key].shape[0])
    return None


def _imagenet_names(net: nn.Module) -> list[str]:
    if logit_count(net) != 1000:
        return []
    # One table for all names: reading it takes longer than building a small network.
    names = timm.data.ImageNetInfo()
    return [names.index_to_description(i) for i in range(1000)]
