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
from vitreous.models.towers import TowerClassifier, head_for, with_prompts


class OpenClip:
    """Towers by open_clip's name. An instance does not say its name, and is not described."""

    def build(self, wanted: Wanted) -> Built:
        """Build one; see `Library`."""
        library = require("open_clip", "open_clip")
        base, _, tag = wanted.name.partition("/")
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
            net = TowerClassifier(
                model.visual, head_for(_width(model.visual), classes, wanted.state)
            )
        architecture: Architecture = {
            "architecture": f"open_clip:{base}",
            "model_args": {} if size is None else {"img_size": size},
        }
        fresh = wanted.state is None and not wanted.prompts
        return Built(net, architecture, describe_network(model.visual, size), fresh)

    def describe(self, net: nn.Module) -> Architecture | None:
        """Not known: an instance does not say which of open_clip's configurations it is of."""
        return None


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


def _width(tower: Network) -> int:
    return int(tower.output_dim)


LIBRARIES.register("open_clip")(OpenClip())
