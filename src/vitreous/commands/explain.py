"""Show what a model looks at: relevance maps and the five most probable classes.

Each image gets a PNG with its maps; maps.npz holds all of them as arrays and explanations.json the
classes with their probabilities.

Example:
    vitreous explain cat.jpg --model vit_base_patch16_224.augreg_in21k_ft_in1k
    vitreous explain photos/ --model runs/guided --compare runs/plain --method all
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vitreous.commands.options import DeviceOption, QuietOption, resolve_device
from vitreous.errors import VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.ranges import PIXELS, at_least

if TYPE_CHECKING:
    from vitreous.models import Classifier


SLOW = "occlusion"


@dataclasses.dataclass(kw_only=True)
class Command(DeviceOption, QuietOption):
    """Explain images."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, or folders of them."""

    model: str
    """timm name with its tag, a run or model folder, or a checkpoint that names its own."""

    checkpoint: Path | None = None
    """Weights to load into that architecture."""

    compare: str | None = None
    """A second model, shown beside the first."""

    method: tuple[str, ...] = ("gradient_attention",)
    """Relevance methods, or `all` (but occlusion, which takes 196 passes)."""

    target: str | None = None
    """Class to explain: number, name, `A - B` for the difference of two, or `top3` for each of the
    three most probable; the predicted one where not given."""

    start_layer: Annotated[int, at_least(0)] = 0
    """First attention layer that counts."""

    image_size: Annotated[int, PIXELS] | None = None
    """Input size in pixels, where it is not the model's own."""

    out: Path = Path("explained")
    """Folder for what is made."""

    skip_unreadable: bool = False
    """Go on past images that cannot be read; they are named and counted."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make; images stay."""

    def run(self) -> None:
        """Explain, print the classes, and say where the maps are."""
        if not self.images:
            raise VitreousError("give images, or folders of them")
        check_folder(self.out, "explanations", overwrite=self.overwrite)
        from vitreous.attribution import METHODS
        from vitreous.commands.explaining import explain_images, list_paths

        every = [name for name in METHODS if name != SLOW]
        methods = every if self.method == ("all",) else list(self.method)
        for name in methods:
            METHODS[name]  # an unknown name is refused before any work
        paths = list_paths(self.images)
        self._require_apart(paths)
        models = self._models()
        claim_folder(self.out, "explanations", overwrite=self.overwrite)
        explain_images(
            paths,
            models,
            methods,
            self.out,
            target=self.target,
            start_layer=self.start_layer,
            skip_unreadable=self.skip_unreadable,
            progress=not self.quiet and len(paths) > 3,
        )

    def _require_apart(self, paths: list[Path]) -> None:
        """Refuse to draw over the images that are explained."""
        if self.out.resolve() in {path.resolve().parent for path in paths}:
            raise VitreousError(
                f"{self.out} holds the images that are explained; choose another --out"
            )

    def _models(self) -> list[Classifier]:
        from vitreous.models import load_model

        device = resolve_device(self.device)
        first = load_model(
            self.model, checkpoint=self.checkpoint, image_size=self.image_size, device=device
        )
        if self.compare is None:
            return [first]
        return [first, load_model(self.compare, image_size=self.image_size, device=device)]
