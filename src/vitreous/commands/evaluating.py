"""What `vitreous evaluate` does: test sets and explanations of models."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vitreous.commands.options import model_place, resolve_device, resolve_workers
from vitreous.data.composites.backgrounds_challenge import is_challenge
from vitreous.data.images import list_images
from vitreous.data.mask_files import read_mask
from vitreous.errors import ImageError, VitreousError, nearest
from vitreous.evaluation.corruptions import CORRUPTIONS
from vitreous.evaluation.evaluators.corruption import paper_corruptions
from vitreous.evaluation.evaluators.explanation import ExplanationSettings
from vitreous.evaluation.run import Evaluation, EvaluationFolders, compare, evaluate
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import (
    MaskedSettings,
    SetSettings,
    Suite,
    combine_suites,
    load_suite,
)
from vitreous.evaluation.test_sets import TEST_SETS, TestSet, read_set
from vitreous.evaluation.test_sets.segmentation import read_segmentation
from vitreous.folders import claim_folder
from vitreous.models import Classifier, Preprocessing, load_model
from vitreous.names import distinct_names, folder_name
from vitreous.precision import Precision, resolve_precision
from vitreous.processes import Processes, current_processes
from vitreous.provenance import provenance
from vitreous.results import Record, Results, told_apart

if TYPE_CHECKING:
    from vitreous.commands.evaluate import Command, Input

LOOKED_AT = 8  # masks, before anything is measured


def evaluate_models(command: Command) -> None:
    """Evaluate each model, compare it with the first, write its results.json."""
    suite = _suite(command)
    processes = current_processes(cpu=command.device == "cpu")
    first: tuple[str, Evaluation] | None = None
    device = resolve_device(command.device, processes.rank)
    for text, name in zip(command.models, distinct_names(command.models)):
        started = time.perf_counter()
        classifier = load_model(text, checkpoint=command.checkpoint, device=device)
        classifier.name = name
        out = _out(command, text, name)
        place = _place(command, text, out)
        Results.check_owner(out, place)
        claim_folder(out, "evaluation", also=("run", "model"), overwrite=command.overwrite)
        done = _evaluate(command, classifier, suite, out, processes)
        if first is not None:
            done.records += compare(first[1], done, first[0])
        first = first or (classifier.name, done)
        if processes.main:
            _report(classifier, done, out, time.perf_counter() - started, place)


def _place(command: Command, text: str, out: Path) -> str:
    """Which model it is; nothing where results lie in the model's own folder."""
    own = Path(text).expanduser().resolve() == out.resolve()
    return "" if own else model_place(text, command.checkpoint)


def asked_preprocessing(asked: Input, own: Preprocessing) -> Preprocessing | None:
    """The preprocessing that was asked for, or None where nothing was."""
    if all(value is None for value in vars(asked).values()):
        return None
    return dataclasses.replace(
        own,
        size=own.size if asked.size is None else (asked.size, asked.size),
        crop_ratio=own.crop_ratio if asked.crop_ratio is None else asked.crop_ratio,
        interpolation=asked.interpolation or own.interpolation,
        crop_mode=asked.crop_mode or own.crop_mode,
        decoding=asked.decoding or own.decoding,
    )


def _checked(classifier: Classifier, asked: Preprocessing | None) -> Preprocessing | None:
    """The preprocessing, if the model takes images of its size; one blank image is tried."""
    own = classifier.preprocessing.size
    if asked is not None and asked.size != own:
        try:
            with torch.no_grad():
                classifier(torch.zeros(1, 3, *asked.size, device=classifier.device))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise VitreousError(
                f"--input.size {asked.size[0]} does not fit {classifier.name}, which takes "
                f"{own[0]} × {own[1]}: {str(error).splitlines()[0]}"
            ) from error
    return asked


def _evaluate(
    command: Command, classifier: Classifier, suite: Suite, out: Path, processes: Processes
) -> Evaluation:
    streaming = StreamSettings(
        batch_size=command.batch_size,
        workers=resolve_workers(command.workers, classifier.device, processes.count),
        precision=_precision(command, classifier, suite),
        preprocessing=_checked(
            classifier, asked_preprocessing(command.input, classifier.preprocessing)
        ),
        limit=command.limit,
        progress=processes.main and not command.quiet,
        restart=command.restart,
        check_content=command.check_content,
    )
    sets = [s for path in command.data for s in _own(command, path, classifier)]
    return evaluate(
        classifier,
        suite,
        EvaluationFolders(command.root, out, command.samples),
        sets=sets,
        streaming=streaming,
        explaining=ExplanationSettings(squash=command.squash, tolerance=command.tolerance),
        processes=processes,
    )


def _precision(command: Command, classifier: Classifier, suite: Suite) -> Precision:
    """What was asked for; `auto` leaves explanations in float32."""
    if command.precision == "auto" and suite.masked:
        return "float32"
    return resolve_precision(command.precision, classifier.device)


def _own(command: Command, path: Path, classifier: Classifier) -> list[TestSet]:
    model = {
        "class_map": command.class_map,
        "class_names": tuple(classifier.class_names),
        "num_classes": classifier.num_classes,
    }
    if is_challenge(path):
        return read_set("backgrounds-challenge", path, **model)
    parts = read_set(
        "folder",
        path,
        label_column=command.label_column,
        group_column=command.group_column,
        groups=command.groups,
        shifted=command.shifted,
        **model,
    )
    (name,), place = distinct_names([path]), str(path.resolve())
    return [dataclasses.replace(s, name=name, source=place, place=place) for s in parts]


def _suite(command: Command) -> Suite:
    _check_masks(command)
    single = tuple(_named(text) for text in command.sets)
    masked = [
        MaskedSettings(
            *distinct_names([path]),
            path.resolve(),
            command.masks,
            command.mask_format,
            command.class_map,
        )
        for path in command.data
        if command.masks
    ]
    if command.segmentation is not None:
        masked.append(MaskedSettings("imagenet-segmentation", command.segmentation.resolve()))
    own = Suite(
        "",
        single,
        command.rotation,
        command.disc,
        _perturbations(command),
        tuple(masked),
        command.methods or ("gradient_attention",),
        command.removal,
    )
    suites = [load_suite(name) for name in command.suite]
    if not suites and not command.sets and not command.data and not masked:
        raise VitreousError("give --suite, --sets, --data or --segmentation: what to measure")
    both = combine_suites([*suites, own])
    return dataclasses.replace(both, methods=command.methods) if command.methods else both


def _check_masks(command: Command) -> None:
    """Refuse, before anything is measured, masks that are not there or of nothing."""
    if command.segmentation is not None:
        read_segmentation(command.segmentation)
    if command.masks is None:
        return
    if not command.data:
        raise VitreousError("--masks are those of --data: give both")
    if not command.masks.is_dir():
        raise VitreousError(f"no folder of masks at {command.masks}")
    files = list_images(command.masks)[:LOOKED_AT]
    reasons = []
    for file in files:
        try:
            read_mask(file, command.mask_format)
        except ImageError as error:
            reasons.append(str(error))
    if len(reasons) == len(files):
        raise VitreousError(f"none of the first {len(files)} masks is one (first: {reasons[0]})")


def _perturbations(command: Command) -> dict[str, tuple[int, ...]]:
    """Corruption → severities."""
    kinds = [k for k in command.corruptions if k != "all"]
    kinds += paper_corruptions() if "all" in command.corruptions else []
    if unknown := [k for k in kinds if k not in CORRUPTIONS]:
        raise VitreousError(
            f"unknown corruption '{unknown[0]}'; {nearest(unknown[0], CORRUPTIONS)}"
        )
    own = {"gaussian_noise": command.noise, "gaussian_blur": command.blur}
    given = {**dict.fromkeys(kinds, command.severities), **{k: v for k, v in own.items() if v}}
    return {kind: severities for kind, severities in given.items() if severities}


def _out(command: Command, text: str, name: str) -> Path:
    if command.out is not None:
        return command.out / folder_name(name) if len(command.models) > 1 else command.out
    path = Path(text).expanduser()
    return path if path.is_dir() else Path("evaluation") / folder_name(name)


def _named(text: str) -> SetSettings:
    name, _, folder = text.partition("=")
    if name not in TEST_SETS:
        TEST_SETS[name]
    return SetSettings(name, Path(folder).resolve() if folder else None)


def _report(
    classifier: Classifier, done: Evaluation, out: Path, seconds: float, place: str
) -> None:
    """Add to results.json and print the headline numbers."""
    made = provenance("evaluate", model=classifier.name, fingerprint=done.model, seconds=seconds)
    context = {"not_measured": done.problems, **({"model_place": place} if place else {})}
    Results.update(out, done.records, made, extra=done.extra(), context=context)
    print(f"{classifier.name}:")
    named = told_apart([done.records])
    for record in done.records:
        if record.metric not in ("unreadable", "constant_maps") or record.value:
            print(f"  {_line(record, named(record.dataset, record.source))}")
        if record.metric == "not_finite":
            print(
                f"  {record.value:.0f} of {record.n} images of {record.dataset} were read, but the "
                "model's answers to them are not finite; they count as wrong. Its weights or its "
                "--precision are at fault, not the images"
            )
    for problem in done.problems:
        print(f"  not measured: {problem}")
    for line in done.left_out:
        print(f"  left out of {line}")
    for folder in done.tables:
        print(f"predictions: {folder / 'predictions.csv'}")
    print(f"results: {out / 'results.json'}")


def _line(record: Record, dataset: str) -> str:
    settings = ", ".join(f"{k} {v}" for k, v in record.settings.items())
    interval = ""
    if record.ci95 is not None:
        interval = f" [{record.ci95[0]:.4f}, {record.ci95[1]:.4f}]"
    name = f"{record.suite:<11} {dataset:<24} {record.metric:<18}"
    return f"{name} {record.value:.4f}{interval} n={record.n} ({settings})"
