"""Measure how a model withstands attacks, or show what an attack does to a picture.

Robust accuracy at each ε goes to results.json with a curve; a killed run goes on where it was
when the same command runs again. With --image a strip (PNG) and an animation (GIF) are drawn.
Pictures pushed towards a class (--image with --target, or --panels) are on the card of the run.

Example:
    vitreous attack runs/x --data val/ --epsilon 1/255 2/255 4/255 --steps 50 --restarts 10
    vitreous attack runs/x --data val/ --attack apgd_ce apgd_t square
    vitreous attack runs/x --data val/ --epsilon 8/255 24/255 --panels 4
    vitreous attack runs/x --image cat.jpg --target 3 --epsilon 2/255 8/255 16/255 32/255
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from vitreous.attacks import ATTACKS, Attack
from vitreous.attacks.checks import masked_by
from vitreous.attacks.curve import draw_curve
from vitreous.attacks.figures import Frame, attack_frames, save_animation, save_panel
from vitreous.attacks.panels import add_panel
from vitreous.attacks.robustness import Robustness, robustness
from vitreous.config import parse_number
from vitreous.data.images import evaluation_transform, load_image, save_image
from vitreous.errors import VitreousError, nearest
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.models import Classifier, load_model
from vitreous.results import Results, run_context

Name = Literal["fgsm", "pgd", "apgd_ce", "apgd_t", "square", "sequence", "autoattack"]


@dataclasses.dataclass
class Command:
    """Attack a model."""

    model: Annotated[str, tyro.conf.Positional]
    """timm name with its tag, a run or model folder, or a checkpoint that names its own."""

    checkpoint: Path | None = None
    """Weights to load into that architecture."""

    data: Path | None = None
    """Pictures with labels: a folder of class folders, a CSV file (path,label) or tar shards."""

    class_map: Path | None = None
    """JSON for your pictures: label → class index, WordNet id, name, or a list of them."""

    image: Path | None = None
    """One picture to show an attack on, instead of a set."""

    label: int | None = None
    """Class of the picture; the predicted one where not given."""

    attack: tuple[Name, ...] = ("pgd",)
    """Attacks, each measured on its own."""

    epsilon: tuple[str, ...] = ("1/255", "2/255", "4/255")
    """Radii of the ball in units of pictures in [0, 1]."""

    norm: Literal["linf", "l2"] = "linf"
    """Of the ball."""

    steps: int | None = None
    """Gradient steps of each start (pgd: 50, apgd: 100)."""

    step_size: str | None = None
    """Length of a step of pgd; 2.5 ε / steps where not given."""

    restarts: int | None = None
    """Random starts (1)."""

    queries: int | None = None
    """Squares that square tries on each picture (5000)."""

    loss: Literal["cross_entropy", "margin", "dlr"] | None = None
    """What pgd and apgd_ce make large."""

    target: int | None = None
    """Class to drive the model to; away from the label where not given."""

    limit: int = 0
    """At most this many pictures, evenly spread; 0 means all."""

    batch_size: int = 32
    """Pictures attacked at once."""

    keep: int = 0
    """Save this many of the pictures that fool the model, clean and perturbed."""

    panels: int = 0
    """Push this many of the pictures towards --target, or each to the class of another, and put
    them on the card of the run."""

    out: Path | None = None
    """Folder of results.json; a run's own folder, or attacks/MODEL, by default."""

    seed: int = 0
    """Of all random choices."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    quiet: bool = False
    """No progress bar."""

    def run(self) -> None:
        """Attack, write results and say where they are."""
        if (self.data is None) == (self.image is None):
            raise VitreousError("give either --data (a set to measure) or --picture (one to show)")
        attacks = [self._build(name) for name in self.attack]
        radii = tuple(sorted({parse_number(text) for text in self.epsilon}))
        device = "cuda" if self.device == "auto" and torch.cuda.is_available() else self.device
        classifier = load_model(
            self.model,
            checkpoint=self.checkpoint,
            device=torch.device("cpu" if device == "auto" else device),
        )
        if self.target is not None and not 0 <= self.target < classifier.num_classes:
            raise VitreousError(
                f"--target {self.target} is no class; {classifier.name} has "
                f"{classifier.num_classes}, counted from 0"
            )
        if self.image is not None:
            self._show(classifier, self.image, attacks[0], radii)
        else:
            self._measure(classifier, attacks, radii)

    def _build(self, name: str) -> Attack:
        """Make an attack with the options that it has.

        Raises:
            VitreousError: For an option that none of the attacks has.
        """
        given: dict[str, Any] = {
            "steps": self.steps,
            "step_size": None if self.step_size is None else parse_number(self.step_size),
            "restarts": self.restarts,
            "queries": self.queries,
            "loss": self.loss,
        }
        given = {key: value for key, value in given.items() if value is not None}
        for key in given:
            if not any(key in _options(other) for other in self.attack):
                raise VitreousError(
                    f"--{key} does not belong to {', '.join(self.attack)}; "
                    f"{nearest(key, _options(name))}"
                )
        chosen = {key: value for key, value in given.items() if key in _options(name)}
        try:
            return ATTACKS[name](norm=self.norm, **chosen)
        except ValueError as error:
            raise VitreousError(f"{name}: {error}") from error

    def _folder(self, classifier: Classifier) -> Path:
        if self.out is not None:
            return self.out
        path = Path(self.model).expanduser()
        return path if path.is_dir() else Path("attacks") / classifier.name.replace("/", "-")

    def _show(
        self, classifier: Classifier, file: Path, attack: Attack, radii: tuple[float, ...]
    ) -> None:
        image = load_image(file, classifier.preprocessing)
        label = self.label
        if label is None:
            with torch.no_grad():
                label = int(classifier(image[None].to(classifier.device)).argmax())
        frames = self._frames(classifier, image, label, attack, radii, self.target)
        aim = self.target if self.target is not None else label
        toward = "towards" if self.target is not None else "away from"
        caption = f"{self.attack[0]} {toward} {classifier.class_name(aim).split(',')[0]}"
        out = self._folder(classifier)
        for frame in frames:
            print(
                f"  ε {frame.epsilon * 255:6.2f}/255  {frame.answer:<28} {frame.confidence:6.1%}"
                f"   class {aim}: {frame.target:6.1%}"
            )
        print(f"strip: {save_panel(frames, out / f'{file.stem}_attack.png', caption)}")
        print(f"animation: {save_animation(frames, out / f'{file.stem}_attack.gif')}")
        if self.target is not None:
            self._panel(classifier, out, file.stem, label, aim, frames)

    def _frames(
        self,
        classifier: Classifier,
        image: Tensor,
        label: int,
        attack: Attack,
        radii: tuple[float, ...],
        target: int | None,
    ) -> list[Frame]:
        try:
            return attack_frames(classifier, image, label, attack, radii, target, self.seed)
        except ValueError as error:
            raise VitreousError(f"{self.attack[0]}: {error}") from error

    def _panel(
        self,
        classifier: Classifier,
        out: Path,
        name: str,
        label: int,
        target: int,
        frames: list[Frame],
    ) -> None:
        one, other = (classifier.class_name(c).split(",")[0] for c in (label, target))
        written = add_panel(out, f"{name}_{target}", f"{one} → {other}", frames)
        print(f"for the card: {one} → {other} in {written}")

    def _panels(
        self,
        classifier: Classifier,
        out: Path,
        images: LabelledImages,
        attack: Attack,
        radii: tuple[float, ...],
    ) -> None:
        """Push pictures of the set, evenly spread, each towards the class of the next."""
        count = min(self.panels, len(images))
        chosen = [images[i * len(images) // count] for i in range(count)]
        for place, (image, label) in enumerate(chosen):
            target = self.target
            if target is None:
                target = chosen[(place + 1) % count][1]
            if target == label:
                target = (label + 1) % classifier.num_classes
            frames = self._frames(classifier, image, label, attack, radii, target)
            self._panel(classifier, out, f"{images.name}_{place}", label, target, frames)

    def _measure(
        self, classifier: Classifier, attacks: list[Attack], radii: tuple[float, ...]
    ) -> None:
        out = self._folder(classifier)
        images = LabelledImages(self._read(classifier), classifier, self.limit)
        done: list[Robustness] = []
        for name, attack in zip(self.attack, attacks):
            state = out / "attacks" / f"{images.name}_{name}_{self.norm}.json"
            found = robustness(
                classifier,
                images,
                attack,
                radii,
                target=self.target,
                batch_size=self.batch_size,
                seed=self.seed,
                state=state,
                quiet=self.quiet,
                keep=self._keeper(out / "attacks" / name),
            )
            done.append(found)
            curve = "  ".join(f"{e * 255:.3g}/255: {a:.1%}" for e, a in found.curve())
            print(f"{name} on {len(images)} pictures of {images.name}   {curve}")
        messages = list(dict.fromkeys(f.message for found in done for f in found.findings))
        last = {found.attack: found.curve()[-1][1] for found in done}
        hidden = masked_by(last)
        for message in [*messages, *([hidden.message] if hidden else [])]:
            print(f"warning: {message}")
        self._write(classifier, out, images.name, done, messages)
        self._panels(classifier, out, images, attacks[0], radii)

    def _read(self, classifier: Classifier) -> TestSet:
        assert self.data is not None
        (first, *_) = read_set(
            "folder",
            self.data,
            class_map=self.class_map,
            class_names=tuple(classifier.class_names),
            num_classes=classifier.num_classes,
        )
        return first

    def _keeper(self, folder: Path) -> Any:
        left = [self.keep]

        def keep(index: int, image: Tensor, perturbed: Tensor, epsilon: float) -> None:
            if left[0] <= 0:
                return
            left[0] -= 1
            save_image(image, folder / f"{index}_clean.png")
            save_image(perturbed, folder / f"{index}_{epsilon * 255:.3g}.png")

        return keep

    def _write(
        self,
        classifier: Classifier,
        out: Path,
        dataset: str,
        done: list[Robustness],
        messages: list[str],
    ) -> None:
        file = out / "results.json"
        results = Results.read(file) if file.is_file() else Results(classifier.name)
        for found in done:
            results.add(found.records(dataset))
            curves = results.extra.setdefault("robustness", {}).setdefault(dataset, {})
            curves[f"{found.attack} {found.settings['norm']}"] = found.curve()
        results.extra.setdefault("attack_warnings", {})[dataset] = messages
        results.context = {**results.context, **run_context(self.seed)}
        results.write(file)
        figure = draw_curve(
            {found.attack: found.curve() for found in done},
            out / "attacks" / f"{dataset}_curve.png",
        )
        print(f"results: {file}\ncurve: {figure}")


class LabelledImages:
    """Pictures of a test set as the model sees them, with the one class that is right.

    Args:
        test_set: The set; pictures without an accepted class are left out.
        classifier: Gives the view.
        limit: At most this many, evenly spread; 0 for all.
    """

    def __init__(self, test_set: TestSet, classifier: Classifier, limit: int = 0):
        self.name = test_set.name
        self._set, self._view = test_set, evaluation_transform(classifier.preprocessing)
        usable = [i for i in range(len(test_set)) if test_set.accepted[test_set.targets[i]]]
        count = min(limit or len(usable), len(usable))
        self._rows = [usable[i * len(usable) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self._rows[index]
        image = self._view(self._set.dataset.images.open(row))
        return image, int(self._set.accepted[self._set.targets[row]][0])


def _options(name: str) -> set[str]:
    return {f.name for f in dataclasses.fields(ATTACKS[name]) if f.init}
