"""What every subcommand of `vitreous brain` does: load its model, and add to its results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vitreous.brain.activations import Extraction
from vitreous.brain.records import store
from vitreous.commands.brain.options import LoadOptions, ModelOptions
from vitreous.commands.options import model_place, resolve_device
from vitreous.errors import VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.models import Classifier, load_model
from vitreous.models.fingerprint import model_fingerprint
from vitreous.names import folder_name
from vitreous.processes import current_processes
from vitreous.provenance import provenance
from vitreous.results import Record, Results


def load_plain(options: LoadOptions) -> Classifier:
    """Load the model."""
    return load_model(
        options.model,
        checkpoint=options.checkpoint,
        pretrained=options.pretrained,
        image_size=options.image_size,
    )


def load_measured(options: ModelOptions) -> Classifier:
    """Load the model; random weights follow from the seed."""
    torch.manual_seed(options.seed)
    classifier = load_plain(options)
    if options.name:
        classifier.name = options.name
    file = results_file(options, classifier)
    _results_folder(options, file, check_folder)
    check_folder(options.cache, "activations", overwrite=options.overwrite, option="--cache")
    if not Path(options.model).is_dir() or options.out is not None:
        Results.check_owner(file, _place(options))
    return classifier


def _results_folder(options: ModelOptions, results: Path, how: Callable[..., object]) -> None:
    """Check or claim the folder of the results, unless their file was named."""
    if results != options.out:
        how(results.parent, "evaluation", also=("run", "model"), overwrite=options.overwrite)


def _place(options: ModelOptions) -> str:
    return f"{model_place(options.model, options.checkpoint)} {options.name}".strip()


def torch_device(options: ModelOptions) -> str:
    """The device that --device means here."""
    return str(resolve_device(options.device))


def extraction(options: ModelOptions, again: bool = False) -> Extraction:
    """How activations are taken; claims the folders, as all input is read by now.

    Args:
        options: Of the command.
        again: This command has taken these activations already: what it restarted stays.
    """
    if options.out is not None and options.out.suffix != ".json":
        _results_folder(options, options.out / "results.json", claim_folder)
    claim_folder(options.cache, "activations", overwrite=options.overwrite, option="--cache")
    return Extraction(
        batch_size=options.batch_size,
        degrees=options.degrees_of_view,
        storage=options.storage,
        precision=options.precision,
        device=torch_device(options),
        restart=options.restart and not again,
        check_content=options.check_content,
    )


def results_file(options: ModelOptions, classifier: Classifier) -> Path:
    """The results file to add to."""
    folder = Path(options.model)
    if options.out is not None:
        return options.out if options.out.suffix == ".json" else options.out / "results.json"
    if folder.is_dir():
        return folder / "results.json"
    return Path("brain_results") / folder_name(classifier.name) / "results.json"


def _context(options: ModelOptions) -> dict[str, str]:
    own = Path(options.model).is_dir() and options.out is None
    return {} if own else {"model_place": _place(options)}


def write(
    options: ModelOptions,
    kind: str,
    classifier: Classifier,
    fresh: Results,
    began: float | None = None,
) -> Path:
    """Add what was measured to the results file, with its provenance, and say where.

    Args:
        options: Of the command.
        kind: Name of the subcommand.
        classifier: What was measured.
        fresh: What came of it.
        began: When it began, of `time.perf_counter`.
    """
    records = [record.made_in(options.precision) for record in fresh.records]
    fresh = dataclasses.replace(fresh, records=records)
    made = provenance(
        f"brain {kind}",
        model=classifier.name,
        fingerprint=model_fingerprint(classifier),
        seed=options.seed,
        seconds=None if began is None else time.perf_counter() - began,
    )
    if not current_processes().main:
        return results_file(options, classifier)
    file = results_file(options, classifier)
    _results_folder(options, file, claim_folder)
    path = store(fresh, file, made, _context(options))
    print(f"results: {path}")
    return path


def default_layers(classifier: Classifier, asked: tuple[str, ...]) -> list[str]:
    """The layers asked for, else the blocks of a Transformer."""
    if asked:
        return list(asked)
    names = {name for name, _ in classifier.net.named_modules()}
    if "blocks.0" in names:
        return ["blocks.*"]
    parts = [name for name, _ in classifier.net.named_children()]
    raise VitreousError(
        f"{classifier.name} has no 'blocks'; give --layers, for example {parts[0]}.* (its parts: "
        f"{', '.join(parts)})"
    )


def value_text(record: Record) -> str:
    """A record's value with its convention and 95 % interval."""
    text = f"{record.value:.3f}"
    if record.ci95 is not None:
        text += f", 95 % {record.ci95[0]:.3f}–{record.ci95[1]:.3f}"
    return f"{record.settings.get('convention', '')} {text}".strip()
