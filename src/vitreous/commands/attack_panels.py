"""What `vitreous attack` shows: one image pushed away from its class, or towards another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitreous.attacks import Attack
from vitreous.attacks.figures import Frame, attack_frames, save_animation, save_panel
from vitreous.attacks.panels import add_panel
from vitreous.data.dataset import Dataset
from vitreous.data.images import load_image, to_tensor
from vitreous.errors import VitreousError
from vitreous.evaluation.loading import View
from vitreous.fingerprint import digest
from vitreous.models import Classifier
from vitreous.names import folder_name

if TYPE_CHECKING:
    from vitreous.commands.attack import Command


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """Images of a test set with the one class that is right.

    Attributes:
        name: How results call it.
        source: Where it is.
        dataset: The images that have an accepted class; labels are the model's classes.
        view: How they become inputs.
        reading: How labels were read, where that is not the usual way.
    """

    name: str
    source: str
    dataset: Dataset
    view: View
    reading: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def folder(self) -> str:
        """What its files are called: by its name, and by where it is."""
        return f"{folder_name(self.name)}-{digest(self.source)[:8]}"


def show_attack(
    command: Command, classifier: Classifier, attack: Attack, radii: tuple[float, ...], out: Path
) -> None:
    """Attack one image at each radius; writes a panel (PNG) and an animation (GIF)."""
    assert command.image is not None
    file, target = command.image, command.target
    image = load_image(file, classifier.preprocessing)
    label = command.label
    if label is None:
        with torch.no_grad():
            label = int(classifier(image[None].to(classifier.device)).argmax())
    frames = _frames(command, classifier, image, label, attack, radii, target)
    shown = label if target is None else target
    _print_frames(frames, shown)
    toward = "away from" if target is None else "towards"
    caption = f"{command.attack[0]} {toward} {_class_word(classifier, shown)}"
    print(f"panel: {save_panel(frames, out / f'{file.stem}_attack.png', caption)}")
    print(f"animation: {save_animation(frames, out / f'{file.stem}_attack.gif')}")
    if target is not None:
        _add_panel(classifier, out, file.stem, label, target, frames)


def push_images(
    command: Command,
    classifier: Classifier,
    out: Path,
    images: LabelledSet,
    attack: Attack,
    radii: tuple[float, ...],
) -> None:
    """Push images of the set, evenly spread, each towards the class of the next."""
    dataset = images.dataset
    count = min(command.panels, len(dataset))
    places = [i * len(dataset) // count for i in range(count)]
    labels = [dataset.label(i) for i in places]
    for number, (place, label) in enumerate(zip(places, labels)):
        target = labels[(number + 1) % count] if command.target is None else command.target
        if target == label:
            target = (label + 1) % classifier.num_classes
        image = to_tensor(images.view.crop()(dataset.images.open(place)))
        frames = _frames(command, classifier, image, label, attack, radii, target)
        _add_panel(classifier, out, f"{images.folder}_{number}", label, target, frames)


def _frames(
    command: Command,
    classifier: Classifier,
    image: Tensor,
    label: int,
    attack: Attack,
    radii: tuple[float, ...],
    target: int | None,
) -> list[Frame]:
    try:
        return attack_frames(classifier, image, label, attack, radii, target, command.seed)
    except ValueError as error:
        raise VitreousError(f"{command.attack[0]}: {error}") from error


def _print_frames(frames: list[Frame], shown: int) -> None:
    for frame in frames:
        print(
            f"  {frame.radius:<12}  {frame.answer:<28} {frame.confidence:6.1%}"
            f"   class {shown}: {frame.target:6.1%}"
        )


def _add_panel(
    classifier: Classifier, out: Path, name: str, label: int, target: int, frames: list[Frame]
) -> None:
    title = f"{_class_word(classifier, label)} → {_class_word(classifier, target)}"
    written = add_panel(out, f"{name}_{target}", title, frames)
    print(f"for the card: {title} in {written}")


def _class_word(classifier: Classifier, index: int) -> str:
    return classifier.class_name(index).split(",")[0]
