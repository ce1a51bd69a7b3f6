"""open_clip's image towers: `open_clip:ViT-B-32/TAG` under a linear head, or prompts as classes."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Generator
from typing import Any

from torch import nn

from vitreous.errors import VitreousError, nearest, require
from vitreous.models.hub import fetched
from vitreous.models.instances import describe_network
from vitreous.models.layout import Network
from vitreous.models.libraries import LIBRARIES, Built, Wanted
from vitreous.models.preprocessing import Architecture
from vitreous.models.structure import rebuilt_by
from vitreous.models.towers import TowerClassifier, head_for, with_prompts

CLASS = "VisionTransformer"
# The tower as it is, whose features are the logits; under a linear layer in an `nn.Sequential`;
# or under a head of ours.
FORMS = ("alone", "sequential", "headed")


class OpenClip:
    """Towers by open_clip's name; what is stored of an instance is the class with its arguments."""

    def build(self, wanted: Wanted) -> Built:
        """Build one; see `Library`."""
        library = require("open_clip", "open_clip")
        base, _, tag = wanted.name.partition("/")
        if base == CLASS:
            return _stored(wanted)
        if base not in library.list_models():
            raise VitreousError(
                f"unknown model 'open_clip:{base}'; {nearest(base, library.list_models())}"
            )
        arguments = wanted.only("num_classes", "img_size")
        classes, size = arguments.pop("num_classes", None), arguments.pop("img_size", None)
        if classes is None and wanted.state is None and not wanted.prompts:
            raise VitreousError(
                f"open_clip:{base} has no classes of its own: give prompts, or a number of classes "
                "for a new head"
            )
        model = _model(library, base, tag if wanted.pretrained else "", wanted.pretrained, size)
        if wanted.prompts and wanted.state is None:
            tokenizer = library.get_tokenizer(base)
            net = with_prompts(model, wanted.prompts, tokenizer)
        else:
            width = int(library.get_model_config(base)["embed_dim"])
            net = TowerClassifier(model.visual, head_for(width, classes, wanted.state))
        architecture: Architecture = {
            "architecture": f"open_clip:{base}",
            "model_args": {} if size is None else {"img_size": size},
        }
        fresh = wanted.state is None and not wanted.prompts
        return Built(net, architecture, describe_network(model.visual, size), fresh)

    def describe(self, net: nn.Module) -> Architecture | None:
        """Its tower's arguments, or of timm's networks within open_clip the configuration."""
        form, tower = _parts(net)
        if tower is None or not type(tower).__module__.startswith("open_clip."):
            return None
        if type(tower).__name__ == "TimmModel":
            return _named(tower) if form == "headed" else None
        arguments = _arguments(tower)
        if arguments is None or not rebuilt_by(_tower, arguments, tower):
            return None
        if isinstance(net, nn.Sequential):
            arguments["num_classes"] = net[1].out_features
        return {"architecture": f"open_clip:{CLASS}", "model_args": {"form": form, **arguments}}


def _parts(net: nn.Module) -> tuple[str, Network | None]:
    """How a tower stands in a network, and the tower; None where it is in no known way."""
    if isinstance(net, TowerClassifier):
        return "headed", net.tower if net.rebuilds else None
    if isinstance(net, nn.Sequential):
        plain = len(net) == 2 and type(net[1]) is nn.Linear and net[1].bias is not None
        return "sequential", net[0] if plain else None
    return "alone", net


def _arguments(tower: Network) -> dict[str, Any] | None:
    """Arguments that a `VisionTransformer` of open_clip may have been made with."""
    try:
        block = tower.transformer.resblocks[0]
        return {
            "image_size": list(tower.image_size),
            "patch_size": list(tower.patch_size),
            "width": tower.conv1.out_channels,
            "layers": len(tower.transformer.resblocks),
            "heads": block.attn.num_heads,
            "mlp_ratio": block.mlp.c_fc.out_features / tower.conv1.out_channels,
            "ls_init_value": None if isinstance(block.ls_1, nn.Identity) else 1.0,
            "output_dim": tower.output_dim,
            "patch_dropout": float(getattr(tower.patch_dropout, "prob", 0.0)),
            "no_ln_pre": isinstance(tower.ln_pre, nn.Identity),
            "pool_type": tower.pool_type,
            "final_ln_after_pool": tower.final_ln_after_pool,
            "quick_gelu": type(block.mlp.gelu).__name__ == "QuickGELU",
            "half_precision_norms": type(tower.ln_post).__name__ == "LayerNormFp32",
        }
    except (AttributeError, IndexError):  # another class of open_clip's, or another kind of block
        return None


def _tower(
    *, quick_gelu: bool = False, half_precision_norms: bool = False, **shape: Any
) -> Network:
    parts: Any = require("open_clip.transformer", "open_clip")
    return parts.VisionTransformer(
        act_layer=parts.QuickGELU if quick_gelu else nn.GELU,
        norm_layer=parts.LayerNormFp32 if half_precision_norms else parts.LayerNorm,
        **shape,
    )


def _named(tower: Network) -> Architecture | None:
    """The first of open_clip's configurations that builds such a tower."""
    library = require("open_clip", "open_clip")
    trunk = (getattr(tower.trunk, "pretrained_cfg", None) or {}).get("architecture")
    for name in library.list_models() if trunk else ():
        vision = (library.get_model_config(name) or {}).get("vision_cfg", {})
        if str(vision.get("timm_model_name")).partition(".")[0] != trunk:
            continue
        build = functools.partial(library.create_model, name, pretrained=None, device="meta")
        with _quiet():
            same = rebuilt_by(lambda build=build: build().visual, {}, tower)
        if same:
            return {"architecture": f"open_clip:{name}", "model_args": {}}
    return None


def _stored(wanted: Wanted) -> Built:
    """Build what `describe` says of an instance."""
    arguments = dict(wanted.arguments)
    form, size = arguments.pop("form", None), arguments.pop("img_size", None)
    classes = arguments.pop("num_classes", None)
    if form not in FORMS:
        raise VitreousError(
            f"open_clip:{CLASS} is read from a folder that vitreous wrote; name a model of "
            "open_clip as open_clip:ViT-B-32/TAG"
        )
    if size is not None and _pair(size) != _pair(arguments.get("image_size")):
        raise VitreousError(
            f"the tower in this folder keeps its input of {arguments.get('image_size')} pixels; "
            f"{size} is another"
        )
    if form == "alone" and classes is not None:
        arguments["output_dim"] = classes
    try:
        tower = _tower(**arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError) as error:
        line = str(error).strip().splitlines()[0]
        raise VitreousError(f"cannot build open_clip:{CLASS}: {line}") from error
    net: nn.Module = tower
    if form == "sequential":
        net = nn.Sequential(tower, nn.Linear(int(tower.output_dim), classes))
    elif form == "headed":
        net = TowerClassifier(tower, head_for(int(tower.output_dim), classes, wanted.state))
    built: Architecture = {
        "architecture": f"open_clip:{CLASS}",
        "model_args": {k: v for k, v in wanted.arguments.items() if k != "img_size"},
    }
    return Built(net, built, describe_network(tower, size), wanted.state is None)


def _pair(size: Any) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size or ())


def _model(
    library: Any, base: str, tag: str, pretrained: bool, size: int | tuple[int, int] | None
) -> Network:
    if pretrained:
        tags = library.list_pretrained_tags_by_model(base)
        if tag not in tags:
            named = f"unknown weights '{tag}' of" if tag else "name the weights of"
            where = "" if tag else f", as in open_clip:{base}/{tags[0] if tags else 'TAG'}"
            raise VitreousError(f"{named} {base}{where}; {nearest(tag, tags)}")
    side = tuple(size) if isinstance(size, (list, tuple)) else size
    make = functools.partial(library.create_model, base, force_image_size=side)
    if not pretrained:
        with _quiet():
            return make(pretrained=None)
    with fetched(f"open_clip:{base}/{tag}"):
        return make(pretrained=tag)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Random weights are what was asked for: open_clip need not warn of them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


LIBRARIES.register("open_clip")(OpenClip())
