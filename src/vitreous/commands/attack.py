"""Measure how a model withstands attacks, or show what an attack does to a picture.

Robust accuracy at each ε goes to results.json with a curve; a killed run goes on where it was
when the same command runs again, and several processes share the work (`torchrun`). With --image
a strip (PNG) and an animation (GIF) are drawn. Pictures pushed towards a class (--image with
--target, or --panels) are on the card of the run.

Example:
    vitreous attack runs/x --data val/ --epsilon 1/255 2/255 4/255 --steps 50 --restarts 10
    vitreous attack runs/x --data val/ --attack apgd_ce apgd_t square
    vitreous attack runs/x --data val/ --attack sequence --members apgd_ce square --norm l2
    vitreous attack runs/x --data val/ --epsilon 8/255 24/255 --panels 4
    vitreous attack runs/x --image cat.jpg --target 3 --epsilon 2/255 8/255 16/255 32/255
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from vitreous.attacks import ATTACKS, Attack
from vitreous.attacks.checks import masked_by
from vitreous.attacks.curve import draw_curve
from vitreous.attacks.figures import Frame, attack_frames, save_animation, save_panel
from vitreous.attacks.panels import add_panel
from vitreous.commands.options import (
    BatchOption,
    DeviceOption,
    LimitOption,
    PrecisionOption,
    QuietOption,
    ResumeOptions,
    SeedOption,
    WorkersOption,
    resolve_device,
)
from vitreous.config import parse_number
from vitreous.data.dataset import Dataset
from vitreous.data.images import load_image, save_image, to_tensor
from vitreous.errors import VitreousError, nearest
from vitreous.evaluation.evaluators.robustness import Attacked, Robustness, robustness
from vitreous.evaluation.loading import View, view_of
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.models import Classifier, load_model
from vitreous.models.fingerprint import model_fingerprint
from vitreous.names import distinct_names, folder_name
from vitreous.processes import Processes, current_processes
from vitreous.provenance import Provenance, provenance
from vitreous.results import Results

Name = Literal["fgsm", "pgd", "apgd_ce", "apgd_t", "square", "sequence", "autoattack"]


@dataclasses.dataclass(kw_only=True)
class Command(
    DeviceOption,
    PrecisionOption,
    BatchOption,
    WorkersOption,
    LimitOption,
    ResumeOptions,
    SeedOption,
    QuietOption,
):
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
    """Random starts (1; those of the version for autoattack)."""

    queries: int | None = None
    """Squares that square tries on each picture (5000)."""

    members: tuple[str, ...] = ()
    """Attacks of sequence (apgd_ce apgd_t square), or of a custom autoattack (apgd-ce fab …)."""

    loss: Literal["cross_entropy", "margin", "dlr"] | None = None
    """What pgd and apgd_ce make large."""

    target: int | None = None
    """Class to drive the model to; away from the label where not given."""

    keep: int = 0
    """Save this many of the pictures that fool the model, clean and perturbed."""

    panels: int = 0
    """Push this many of the pictures towards --target, or each to the class of another, and put
    them on the card of the run."""

    out: Path | None = None
    """Folder of results.json; a run's own folder, or attacks/MODEL, by default."""

    def run(self) -> None:
        """Attack, write results and say where they are."""
        if (self.data is None) == (self.image is None):
            raise VitreousError("give either --data (a set to measure) or --image (one to show)")
        attacks = [self._build(name) for name in self.attack]
        radii = tuple(sorted({parse_number(text) for text in self.epsilon}))
        processes = current_processes(cpu=self.device == "cpu")
        device = resolve_device(self.device, processes.rank)
        classifier = load_model(self.model, checkpoint=self.checkpoint, device=device)
        (classifier.name,) = distinct_names([self.model])
        if self.target is not None and not 0 <= self.target < classifier.num_classes:
            raise VitreousError(
                f"--target {self.target} is no class; {classifier.name} has "
                f"{classifier.num_classes}, counted from 0"
            )
        if self.image is not None:
            self._show(classifier, self.image, attacks[0], radii)
        else:
            self._measure(classifier, attacks, radii, processes)

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
            "members": self.members or None,
        }
        given = {key: value for key, value in given.items() if value is not None}
        for key in given:
            if not any(key in _options(other) for other in self.attack):
                raise VitreousError(
                    f"--{key} does not belong to {', '.join(self.attack)}; "
                    f"{nearest(key, _options(name))}"
                )
        chosen = {key: value for key, value in given.items() if key in _options(name)}
        if name == "autoattack" and self.members:
            chosen["version"] = "custom"
        try:
            return ATTACKS[name](norm=self.norm, **chosen)
        except (ValueError, VitreousError) as error:
            raise VitreousError(f"{name}: {error}") from error

    def _folder(self, classifier: Classifier) -> Path:
        if self.out is not None:
            return self.out
        path = Path(self.model).expanduser()
        return path if path.is_dir() else Path("attacks") / folder_name(classifier.name)

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
        images: LabelledSet,
        attack: Attack,
        radii: tuple[float, ...],
    ) -> None:
        """Push pictures of the set, evenly spread, each towards the class of the next."""
        count = min(self.panels, len(images.dataset))
        places = [i * len(images.dataset) // count for i in range(count)]
        labels = [images.dataset.label(i) for i in places]
        for number, (place, label) in enumerate(zip(places, labels)):
            target = self.target
            if target is None:
                target = labels[(number + 1) % count]
            if target == label:
                target = (label + 1) % classifier.num_classes
            image = to_tensor(images.view.crop()(images.dataset.images.open(place)))
            frames = self._frames(classifier, image, label, attack, radii, target)
            self._panel(classifier, out, f"{images.name}_{number}", label, target, frames)

    def _measure(
        self,
        classifier: Classifier,
        attacks: list[Attack],
        radii: tuple[float, ...],
        processes: Processes,
    ) -> None:
        started, out = time.perf_counter(), self._folder(classifier)
        images = self._read(classifier)
        done = []
        for name, attack in zip(self.attack, attacks):
            evaluator = Robustness(
                images.name,
                attack,
                radii,
                target=self.target,
                seed=self.seed,
                keep=self._keeper(out / "attacks" / name),
            )
            done.append(
                robustness(
                    classifier,
                    images.dataset,
                    evaluator,
                    out / "attacks" / "rows",
                    view=images.view,
                    streaming=self._streaming(processes),
                    processes=processes,
                )
            )
        if not processes.main:
            return
        messages = _tell(done, images)
        made = provenance(
            "attack",
            model=classifier.name,
            fingerprint=model_fingerprint(classifier),
            seed=self.seed,
            seconds=time.perf_counter() - started,
        )
        _write(out, images, done, messages, made)
        self._panels(classifier, out, images, attacks[0], radii)

    def _streaming(self, processes: Processes) -> StreamSettings:
        return StreamSettings(
            batch_size=self.batch_size,
            workers=self.workers,
            precision=self.precision,
            limit=self.limit,
            progress=processes.main and not self.quiet,
            restart=self.restart,
            check_content=self.check_content,
        )

    def _read(self, classifier: Classifier) -> LabelledSet:
        assert self.data is not None
        (first, *_) = read_set(
            "folder",
            self.data,
            class_map=self.class_map,
            class_names=tuple(classifier.class_names),
            num_classes=classifier.num_classes,
        )
        (name,) = distinct_names([self.data])
        return LabelledSet.of(first, name, str(self.data.absolute()), classifier)

    def _keeper(self, folder: Path) -> Any:
        left = [self.keep]

        def keep(index: int, image: Tensor, perturbed: Tensor, epsilon: float) -> None:
            if left[0] <= 0:
                return
            left[0] -= 1
            save_image(image, folder / f"{index}_clean.png")
            save_image(perturbed, folder / f"{index}_{epsilon * 255:.3g}.png")

        return keep


def _tell(done: list[Attacked], images: LabelledSet) -> list[str]:
    """Print curves and warnings; returns the warnings."""
    for attacked in done:
        curve = "  ".join(f"{e * 255:.3g}/255: {a:.1%}" for e, a in attacked.curve())
        print(f"{attacked.attack} on {len(attacked.rows)} pictures of {images.name}   {curve}")
    messages = [f.message for attacked in done for f in attacked.findings]
    hidden = masked_by({attacked.attack: attacked.curve()[-1][1] for attacked in done})
    messages += [hidden.message] if hidden else []
    if reasons := done[0].reasons:
        messages.append(
            f"{len(reasons)} pictures could not be read and count as wrong, the first: "
            f"{next(iter(reasons.values()))}"
        )
    messages = list(dict.fromkeys(messages))
    for message in messages:
        print(f"warning: {message}")
    return messages


def _write(
    out: Path, images: LabelledSet, done: list[Attacked], messages: list[str], made: Provenance
) -> None:
    """Add to results.json and draw the curve."""
    name = images.name
    curves = {f"{a.attack} {a.evaluator.attack.norm}": a.curve() for a in done}
    records = [
        dataclasses.replace(record, source=images.source)
        for attacked in done
        for record in attacked.records()
    ]
    extra = {"robustness": {name: curves}, "attack_warnings": {name: messages}}
    Results.update(out, records, made, extra=extra)
    figure = draw_curve(
        {attacked.attack: attacked.curve() for attacked in done},
        out / "attacks" / f"{folder_name(name)}_curve.png",
    )
    print(f"results: {out / 'results.json'}\ncurve: {figure}")


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """Images of a test set with the one class that is right.

    Attributes:
        name: How results call it.
        source: Where it is.
        dataset: The images that have an accepted class; labels are the model's classes.
        view: How they become inputs.
    """

    name: str
    source: str
    dataset: Dataset
    view: View

    @classmethod
    def of(cls, test_set: TestSet, name: str, source: str, classifier: Classifier) -> LabelledSet:
        """Take the first accepted class of each image; those without one are left out."""
        whole, view = test_set.class_labels(), view_of(test_set, classifier.preprocessing)
        return cls(name, source, whole.select(np.flatnonzero(whole.labels >= 0)), view)


def _options(name: str) -> set[str]:
    return {f.name for f in dataclasses.fields(ATTACKS[name]) if f.init}
