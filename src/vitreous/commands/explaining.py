"""What `vitreous explain` does: maps of images by some methods and models, drawn and described."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vitreous.attribution import Explanation, explain
from vitreous.attribution.compute import class_number
from vitreous.attribution.draw import overlay, panel
from vitreous.data.images import evaluation_transform, list_images, open_image
from vitreous.errors import ImageError, UnsupportedModelError, VitreousError
from vitreous.io import atomic_path, write_json
from vitreous.models import Classifier

Maps = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TopClass:
    """A class with its probability, in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model says of an image, and the class that its maps explain."""

    model: str
    target: int
    top: list[TopClass]
    constant: bool


@dataclasses.dataclass(frozen=True)
class Row:
    """An image, the file of its maps without suffix, and what each model says of it."""

    image: Path
    key: str
    answers: list[Answer]

    def values(self) -> dict[str, object]:
        """The row as it is written to explanations.json."""
        models = [
            {
                "model": answer.model,
                "target": answer.target,
                "top": [
                    {"class": top.index, "name": top.name, "probability": top.probability}
                    for top in answer.top
                ],
                "constant": answer.constant,
            }
            for answer in self.answers
        ]
        return {"picture": str(self.image), "file": f"{self.key}.png", "models": models}


def list_paths(given: Sequence[Path]) -> list[Path]:
    """The image files that were given, and those in the folders that were given."""
    return [p for path in given for p in (list_images(path) if path.is_dir() else [path])]


def explain_images(
    paths: Sequence[Path],
    models: Sequence[Classifier],
    methods: Sequence[str],
    out: Path,
    *,
    target: str | None = None,
    start_layer: int = 0,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> None:
    """Explain images; writes a PNG each, maps.npz and explanations.json, and prints the classes.

    Args:
        paths: Image files.
        models: One, or two that are shown beside each other.
        methods: Names of relevance methods.
        out: Folder to write to.
        target: Class to explain: its number, its name, `A - B` for the difference of two, or `top3`
            for each of the three most probable; the predicted one where not given.
        start_layer: First attention layer that counts.
        skip_unreadable: Go on past images that cannot be read.
        progress: Show a bar, in a terminal.

    Raises:
        ImageError: For an image that cannot be read, unless such are skipped.
        VitreousError: If none can be read.
        UnsupportedModelError: If no method holds for a model.
    """
    maps: Maps = {}
    rows: list[Row] = []
    skipped: list[str] = []
    for path in tqdm(paths, desc="explaining", disable=None if progress else True):
        key = _free_key(path, {row.key for row in rows})
        try:
            rows.append(_explain_image(path, key, models, methods, target, start_layer, maps, out))
        except ImageError as error:
            if not skip_unreadable:
                advice = "--skip-unreadable leaves such pictures out"
                raise ImageError(f"{error}; {advice}") from error
            skipped.append(str(error))
    if not rows:
        raise VitreousError(f"none of {len(paths)} pictures can be read; first: {skipped[0]}")
    values = {"pictures": [row.values() for row in rows], "skipped": skipped}
    write_json(out / "explanations.json", values)
    with atomic_path(out / "maps.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **maps)  # ty: ignore[invalid-argument-type]
    _tell(rows, skipped, out)


def _explain_image(
    path: Path,
    key: str,
    models: Sequence[Classifier],
    methods: Sequence[str],
    target: str | None,
    start_layer: int,
    maps: Maps,
    out: Path,
) -> Row:
    image = open_image(path)
    lines, answers = [], []
    for place, model in enumerate(models):
        source = evaluation_transform(model.preprocessing)(image)
        images = source[None].to(model.device)
        explained = _by_method(model, images, methods, target, start_layer)
        name = f"{key}/{place}" if len(models) > 1 else key
        for method, explanation in explained.items():
            maps[f"{name}/{method}"] = explanation.relevance[0, 0].cpu().numpy()
        answers.append(_answer(model, list(explained.values())[-1]))
        lines.append([(_title(answers[-1]), source), *_overlays(source, explained)])
    panel(lines, out / f"{key}.png", path.name)
    return Row(path, key, answers)


def _by_method(
    model: Classifier,
    images: Tensor,
    methods: Sequence[str],
    target: str | None,
    start_layer: int,
) -> dict[str, Explanation]:
    """The explanations of those methods that hold for the model."""
    explained = {}
    for method in methods:
        try:
            for label, (chosen, against) in _targets(model, images, target).items():
                explained[f"{method}{label}"] = explain(
                    model, images, chosen, method, against=against, start_layer=start_layer
                )
        except UnsupportedModelError:
            if len(methods) == 1:
                raise
    if not explained:
        raise UnsupportedModelError(f"none of the methods holds for {model.name}")
    return explained


def _targets(
    model: Classifier, images: Tensor, target: str | None
) -> dict[str, tuple[int | None, int | None]]:
    """What to explain: what to add to a method's name → the class, and the class against it."""
    if target is None or target == "predicted":
        return {"": (None, None)}
    if (top := re.fullmatch(r"top(\d+)", target)) and int(top[1]):
        with torch.inference_mode():
            best = top_classes(model, model(images)[0], int(top[1]))
        return {f"/{t.index}": (t.index, None) for t in best}
    if " - " in target:
        first, second = (_class(model, part) for part in target.split(" - ", 1))
        return {"": (first, second)}
    return {"": (_class(model, target), None)}


def _class(model: Classifier, given: str) -> int:
    return int(given) if given.strip().isdecimal() else class_number(given, model.class_names)


def _answer(model: Classifier, explanation: Explanation) -> Answer:
    top = top_classes(model, explanation.logits[0])
    constant = bool(explanation.constant[0])
    return Answer(model.name, int(explanation.target[0]), top, constant)


def _title(answer: Answer) -> str:
    first = answer.top[0]
    return f"{answer.model[:34]}\n{first.name[:28]} {first.probability:.0%}"


def _overlays(source: Tensor, explained: dict[str, Explanation]) -> list[tuple[str, Tensor]]:
    return [
        (
            method.replace("_", " ") + (" (constant)" if bool(explanation.constant[0]) else ""),
            overlay(source, explanation.relevance[0]),
        )
        for method, explanation in explained.items()
    ]


def top_classes(model: Classifier, logits: Tensor, count: int = 5) -> list[TopClass]:
    """The most probable classes of one image, by its logits (C,)."""
    probabilities = logits.float().softmax(0)
    values, classes = probabilities.topk(min(count, len(logits)))
    return [
        TopClass(int(index), model.class_name(int(index)), float(value))
        for value, index in zip(values, classes)
    ]


def _free_key(path: Path, taken: set[str]) -> str:
    """A file name for an image that no earlier one has."""
    name, place = path.stem, 2
    while name in taken:
        name, place = f"{path.stem}_{place}", place + 1
    return name


def _tell(rows: Sequence[Row], skipped: Sequence[str], out: Path) -> None:
    for row in rows:
        for answer in row.answers:
            print(f"{row.image}  ({answer.model})")
            for top in answer.top:
                print(f"  {top.probability:7.2%}  {top.name} [{top.index}]")
    constant = sum(answer.constant for row in rows for answer in row.answers)
    if constant:
        print(f"{constant} maps are constant, and so shown as zeros")
    for line in skipped:
        print(f"skipped: {line}")
    note = f", {len(skipped)} skipped" if skipped else ""
    print(f"{len(rows)} pictures explained{note}: PNG, maps.npz, explanations.json in {out}")
