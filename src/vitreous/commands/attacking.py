"""What `vitreous attack` does: robust accuracy of a model on a set, at each radius."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitreous.attacks import ATTACKS, Attack
from vitreous.attacks.checks import GRADIENT_FREE, masked_by
from vitreous.attacks.curve import draw_curve
from vitreous.attacks.norms import radius_text
from vitreous.commands.attack_panels import LabelledSet, push_images, show_attack
from vitreous.commands.options import (
    RADIUS,
    STEP_SIZE,
    model_place,
    resolve_device,
    resolve_workers,
)
from vitreous.commands.parsing import option_name
from vitreous.config import check_ranges, parse_number
from vitreous.data.images import save_image
from vitreous.data.listing import left_out
from vitreous.errors import VitreousError
from vitreous.evaluation.evaluators.robustness import (
    Attacked,
    Robustness,
    robustness,
    robustness_curves,
)
from vitreous.evaluation.loading import view_of
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.test_sets import read_set
from vitreous.fingerprint import digest
from vitreous.folders import claim_folder
from vitreous.models import Classifier, load_model
from vitreous.models.fingerprint import model_fingerprint
from vitreous.names import distinct_names, folder_name
from vitreous.processes import Processes, current_processes
from vitreous.provenance import Provenance, provenance
from vitreous.ranges import Range
from vitreous.results import Results

if TYPE_CHECKING:
    from vitreous.commands.attack import Command

SETTINGS = ("steps", "step_size", "restarts", "queries", "loss", "members")
NO_ACCEPTED = "images whose label is no class of the model"


def attack(command: Command) -> None:
    """Attack a model as the command says, write results and say where they are."""
    attacks = [build_attack(command, name) for name in command.attack]
    radii = tuple(sorted({_number(text, "--epsilon", RADIUS) for text in command.epsilon}))
    processes = current_processes(cpu=command.device == "cpu")
    classifier = _load(command, processes)
    out = _folder(command, classifier)
    place = _place(command, out)
    Results.check_owner(out, place)
    claim_folder(out, "evaluation", also=("run", "model"), overwrite=command.overwrite)
    if command.image is not None:
        show_attack(command, classifier, attacks[0], radii, out)
    else:
        _measure(command, classifier, attacks, radii, out, place, processes)


def _load(command: Command, processes: Processes) -> Classifier:
    device = resolve_device(command.device, processes.rank)
    classifier = load_model(command.model, checkpoint=command.checkpoint, device=device)
    (classifier.name,) = distinct_names([command.model])
    for option, value in (("--target", command.target), ("--label", command.label)):
        if value is not None and value >= classifier.num_classes:
            raise VitreousError(
                f"{option} {value} is no class; {classifier.name} has {classifier.num_classes}, "
                "counted from 0"
            )
    return classifier


def build_attack(command: Command, name: str) -> Attack:
    """Make an attack with the options that it has.

    Raises:
        VitreousError: For an option that none of the attacks has.
    """
    given = _given(command)
    for key in given:
        if not any(key in _options(other) for other in command.attack):
            raise VitreousError(
                f"{_option(key)} does not belong to {', '.join(command.attack)}, which takes "
                f"{', '.join(_taken(command.attack))}"
            )
    chosen = {key: value for key, value in given.items() if key in _options(name)}
    if name == "autoattack" and command.members:
        chosen["version"] = "custom"
    try:
        made = ATTACKS[name](norm=command.norm, **chosen)
    except (ValueError, VitreousError) as error:
        raise VitreousError(f"{name}: {error}") from error
    check_ranges(made, option_name)
    return made


def _number(text: str, option: str, bounds: Range) -> float:
    """A number such as `2/255` within a range."""
    number = parse_number(text, option)
    bounds.check(number, option)
    return number


def _given(command: Command) -> dict[str, object]:
    """The settings of attacks that were given as options."""
    given = {key: getattr(command, key) for key in SETTINGS}
    if command.step_size is not None:
        given["step_size"] = _number(command.step_size, "--step-size", STEP_SIZE)
    return {key: value for key, value in given.items() if value not in (None, ())}


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _taken(attacks: tuple[str, ...]) -> list[str]:
    """The options that any of these attacks takes."""
    held = set().union(*map(_options, attacks))
    every = ("epsilon", "norm", *SETTINGS)
    return [_option(key) for key in every if key in held]


def _options(name: str) -> set[str]:
    return set(inspect.signature(ATTACKS[name]).parameters)


def _folder(command: Command, classifier: Classifier) -> Path:
    if command.out is not None:
        return command.out
    path = Path(command.model).expanduser()
    return path if path.is_dir() else Path("attacks") / folder_name(classifier.name)


def _place(command: Command, out: Path) -> str:
    """Which model it is; nothing where results lie in the model's own folder."""
    own = Path(command.model).expanduser().resolve() == out.resolve()
    return "" if own else model_place(command.model, command.checkpoint)


def _measure(
    command: Command,
    classifier: Classifier,
    attacks: list[Attack],
    radii: tuple[float, ...],
    out: Path,
    place: str,
    processes: Processes,
) -> None:
    started = time.perf_counter()
    images = _read(command, classifier)
    evaluators = [
        Robustness(
            images.name,
            attack,
            radii,
            target=command.target,
            seed=command.seed,
            keep=keeper(command.keep, out / "attacks" / _kept(images, name, attack, command)),
        )
        for name, attack in zip(command.attack, attacks)
    ]
    done = _compared([_stream(command, classifier, images, e, out, processes) for e in evaluators])
    if not processes.main:
        return
    made = provenance(
        "attack",
        model=classifier.name,
        fingerprint=model_fingerprint(classifier),
        seed=command.seed,
        seconds=time.perf_counter() - started,
    )
    _print(done, images)
    _write(out, images, done, made, place, command)
    push_images(command, classifier, out, images, attacks[0], radii)


def _stream(
    command: Command,
    classifier: Classifier,
    images: LabelledSet,
    evaluator: Robustness,
    out: Path,
    processes: Processes,
) -> Attacked:
    """Stream the set through one attack; goes on where a killed run was."""
    return robustness(
        classifier,
        images.dataset,
        evaluator,
        out / "attacks" / "rows",
        view=images.view,
        streaming=StreamSettings(
            batch_size=command.batch_size,
            workers=resolve_workers(command.workers, classifier.device, processes.count),
            precision=command.precision,
            limit=command.limit,
            progress=processes.main and not command.quiet,
            restart=command.restart,
            check_content=command.check_content,
        ),
        processes=processes,
    )


def _read(command: Command, classifier: Classifier) -> LabelledSet:
    """Take the first accepted class of each image; those without one are left out."""
    assert command.data is not None
    (test_set, *_) = read_set(
        "folder",
        command.data,
        class_map=command.class_map,
        class_names=tuple(classifier.class_names),
        num_classes=classifier.num_classes,
    )
    (name,) = distinct_names([command.data])
    whole, view = test_set.class_labels(), view_of(test_set, classifier.preprocessing)
    without = [whole.name(i) for i in np.flatnonzero(whole.labels < 0).tolist()]
    passed = (*whole.left_out, *left_out({NO_ACCEPTED: without}))
    kept = whole.select(np.flatnonzero(whole.labels >= 0))
    dataset = dataclasses.replace(kept, left_out=passed)
    return LabelledSet(name, str(command.data.resolve()), dataset, view, test_set.reading)


def _kept(images: LabelledSet, name: str, attack: Attack, command: Command) -> Path:
    """Folder of the images that are kept: one for each set, attack and all that it depends on."""
    return Path(images.folder, f"{name}-{digest(attack, command.target, command.seed)[:8]}")


def keeper(count: int, folder: Path) -> Callable[[int, Tensor, Tensor, float], None]:
    """Make what saves the first `count` images that fool the model, clean and perturbed."""
    left = [count]

    def keep(index: int, image: Tensor, perturbed: Tensor, epsilon: float) -> None:
        if left[0] <= 0:
            return
        left[0] -= 1
        save_image(image, folder / f"{index}_clean.png")
        save_image(perturbed, folder / f"{index}_{epsilon:.4f}.png")

    return keep


def _print(done: list[Attacked], images: LabelledSet) -> None:
    """Print curves and warnings, and what was left out."""
    for attacked in done:
        norm = attacked.evaluator.attack.norm
        curve = "  ".join(
            f"{radius_text(e, norm) if e else 'clean'}: {a:.1%}" for e, a in attacked.curve()
        )
        print(f"{attacked.attack} on {len(attacked.rows)} images of {images.name}   {curve}")
    for message in dict.fromkeys(m for attacked in done for m in attacked.warnings()):
        print(f"warning: {message}")
    for passed in images.dataset.left_out:
        print(f"left out of {images.name}: {passed}")


def _compared(done: list[Attacked]) -> list[Attacked]:
    """The same, with a finding for those with gradients where the one without finds more."""
    hidden = masked_by({attacked.attack: attacked.curve()[-1][1] for attacked in done})
    if hidden is None:
        return done
    return [
        a if a.attack in GRADIENT_FREE else dataclasses.replace(a, findings=(*a.findings, hidden))
        for a in done
    ]


def _write(
    out: Path,
    images: LabelledSet,
    done: list[Attacked],
    made: Provenance,
    place: str,
    command: Command,
) -> None:
    """Add to results.json and draw the curves of all that was measured of this model on the set."""
    records = [
        dataclasses.replace(
            record, source=images.source, settings={**record.settings, **images.reading}
        ).made_in(command.precision)
        for attacked in done
        for record in attacked.records()
    ]
    context = {"model_place": place} if place else {}
    results = Results.update(out, records, made, context=context)
    print(f"results: {out / 'results.json'}")
    own = [
        r
        for r in results.current()
        if (r.suite, r.source, r.provenance.fingerprint)
        == ("attack", images.source, made.fingerprint)
    ]
    for norm in dict.fromkeys(str(r.settings["norm"]) for r in records):
        file = out / "attacks" / f"{images.folder}-{norm}_curve.png"
        print(f"curve: {draw_curve(robustness_curves(own, norm), file, norm)}")
