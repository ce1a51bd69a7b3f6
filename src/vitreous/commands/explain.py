"""Show what a model looks at: relevance maps and the five most probable classes.

Example:
    vitreous explain cat.jpg --model vit_base_patch16_224.augreg_in21k_ft_in1k
    vitreous explain photos/ --model runs/guided --compare runs/plain --method all

Each picture gets a PNG with its maps; maps.npz holds all of them as arrays and
explanations.json the classes with their probabilities.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from torch import Tensor
from tqdm import tqdm

from vitreous.attribution import METHODS, Explanation, explain
from vitreous.attribution.draw import overlay, panel
from vitreous.data.images import evaluation_transform, list_images, open_image
from vitreous.errors import ImageError, UnsupportedModelError, VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.io import atomic_path, write_json
from vitreous.models import Classifier, load_model


@dataclasses.dataclass
class Command:
    """Explain pictures."""

    images: Annotated[list[Path], tyro.conf.Positional]
    """Picture files, or folders of them."""

    model: str
    """timm name with its tag, a run or model folder, or a checkpoint that names its own."""

    checkpoint: Path | None = None
    """Weights to load into that architecture."""

    compare: str | None = None
    """A second model, shown beside the first."""

    method: list[str] = dataclasses.field(default_factory=lambda: ["gradient_attention"])
    """Relevance methods, or `all`."""

    target: int | None = None
    """Class to explain; the predicted one where not given."""

    start_layer: int = 0
    """First attention layer that counts."""

    image_size: int | None = None
    """Input size in pixels, where it is not the model's own."""

    out: Path = Path("explained")
    """Folder for what is made."""

    device: str = "cpu"
    """cpu, cuda, …"""

    skip_unreadable: bool = False
    """Go on past pictures that cannot be read; they are named and counted."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make; pictures stay."""

    def run(self) -> int:
        """Explain, print the classes, and say where the maps are."""
        check_folder(self.out, "explanations", overwrite=self.overwrite)
        models = self._models()
        methods = sorted(METHODS) if self.method == ["all"] else self.method
        for name in methods:
            METHODS[name]  # an unknown name is refused before any work
        paths = [
            p for path in self.images for p in (list_images(path) if path.is_dir() else [path])
        ]
        self._require_apart(paths)
        claim_folder(self.out, "explanations", overwrite=self.overwrite)
        arrays: dict[str, Any] = {}
        rows: list[dict[str, Any]] = []
        skipped: list[str] = []
        for path in tqdm(paths, desc="explaining", disable=None if len(paths) > 3 else True):
            try:
                rows.append(self._one(path, _key(path, rows), models, methods, arrays))
            except ImageError as error:
                if not self.skip_unreadable:
                    raise ImageError(
                        f"{error}; --skip-unreadable leaves such pictures out"
                    ) from error
                skipped.append(str(error))
        if not rows:
            raise VitreousError(f"none of {len(paths)} pictures can be read; first: {skipped[0]}")
        write_json(self.out / "explanations.json", {"pictures": rows, "skipped": skipped})
        with atomic_path(self.out / "maps.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        self._tell(rows, skipped)
        return 0

    def _require_apart(self, paths: list[Path]) -> None:
        """Refuse to draw over the pictures that are explained."""
        if self.out.resolve() in {path.resolve().parent for path in paths}:
            raise VitreousError(
                f"{self.out} holds the pictures that are explained; choose another --out"
            )

    def _models(self) -> list[Classifier]:
        options: dict[str, Any] = {"image_size": self.image_size, "device": self.device}
        models = [load_model(self.model, checkpoint=self.checkpoint, **options)]
        if self.compare is not None:
            models.append(load_model(self.compare, **options))
        return models

    def _one(
        self,
        path: Path,
        key: str,
        models: list[Classifier],
        methods: list[str],
        arrays: dict[str, Any],
    ) -> dict[str, Any]:
        image = open_image(path)
        lines, described = [], []
        for place, model in enumerate(models):
            source = evaluation_transform(model.preprocessing)(image)
            line, found = [("picture", source)], None
            for method in methods:
                try:
                    found = self._explain(model, source, method)
                except UnsupportedModelError:
                    if len(methods) == 1:
                        raise
                    continue
                name = f"{key}/{place}/{method}" if len(models) > 1 else f"{key}/{method}"
                arrays[name] = found.relevance[0, 0].cpu().numpy()
                note = " (constant)" if bool(found.constant[0]) else ""
                line.append((method.replace("_", " ") + note, overlay(source, found.relevance[0])))
            if found is None:
                raise UnsupportedModelError(f"none of the methods holds for {model.name}")
            top = top_classes(model, found.logits[0])
            line[0] = (
                f"{model.name[:34]}\n{top[0]['name'][:28]} {top[0]['probability']:.0%}",
                source,
            )
            lines.append(line)
            described.append(
                {
                    "model": model.name,
                    "target": int(found.target[0]),
                    "top": top,
                    "constant": bool(found.constant[0]),
                }
            )
        panel(lines, self.out / f"{key}.png", path.name)
        return {"picture": str(path), "file": f"{key}.png", "models": described}

    def _explain(self, model: Classifier, image: Tensor, method: str) -> Explanation:
        images = image[None].to(model.device)
        return explain(model, images, self.target, method, start_layer=self.start_layer)

    def _tell(self, rows: list[dict[str, Any]], skipped: list[str]) -> None:
        for row in rows:
            for found in row["models"]:
                print(f"{row['picture']}  ({found['model']})")
                for one in found["top"]:
                    print(f"  {one['probability']:7.2%}  {one['name']} [{one['class']}]")
        constant = sum(found["constant"] for row in rows for found in row["models"])
        if constant:
            print(f"{constant} maps are constant, and so shown as zeros")
        for line in skipped:
            print(f"skipped: {line}")
        note = f", {len(skipped)} skipped" if skipped else ""
        print(
            f"{len(rows)} pictures explained{note}: PNG, maps.npz, explanations.json in {self.out}"
        )


def top_classes(model: Classifier, logits: Tensor, count: int = 5) -> list[dict[str, Any]]:
    """The most probable classes of one picture."""
    probabilities = logits.float().softmax(0)
    values, classes = probabilities.topk(min(count, len(logits)))
    return [
        {"class": int(c), "name": model.class_name(int(c)), "probability": float(v)}
        for v, c in zip(values, classes)
    ]


def _key(path: Path, rows: list[dict[str, Any]]) -> str:
    """A file name for a picture that no earlier one has."""
    taken = {row["file"].removesuffix(".png") for row in rows}
    name, place = path.stem, 2
    while name in taken:
        name, place = f"{path.stem}_{place}", place + 1
    return name
