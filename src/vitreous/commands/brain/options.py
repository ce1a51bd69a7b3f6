"""Options that several subcommands of `vitreous brain` share: the model and its activations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.brain.activations import Extraction
from vitreous.brain.records import store
from vitreous.commands.options import (
    BatchOption,
    DeviceOption,
    ResumeOptions,
    SeedOption,
    model_place,
    resolve_device,
)
from vitreous.errors import VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.models import Classifier, load_model
from vitreous.models.fingerprint import model_fingerprint
from vitreous.names import folder_name
from vitreous.precision import Precision
from vitreous.processes import current_processes
from vitreous.provenance import provenance
from vitreous.ranges import PIXELS, above
from vitreous.results import Record, Results


@dataclasses.dataclass(kw_only=True)
class LoadOptions:
    """Which model."""

    model: Annotated[str, tyro.conf.Positional]
    """A timm name, a run folder, or a checkpoint that names its architecture."""
    checkpoint: Path | None = None
    """Weights to load into the architecture."""
    pretrained: bool = True
    """Take timm's weights; --no-pretrained scores the architecture with random weights."""
    image_size: Annotated[int, PIXELS] | None = None
    """Input height and width in pixels; the model's own by default."""
    degrees_of_view: Annotated[float, above(0)] = 8.0
    """Visual angle that the model is taken to see; Brain-Score's is 8."""

    def load(self) -> Classifier:
        """Load the model."""
        return load_model(
            self.model,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            image_size=self.image_size,
        )


@dataclasses.dataclass(kw_only=True)
class ModelOptions(LoadOptions, BatchOption, DeviceOption, ResumeOptions, SeedOption):
    """Which model, how its activations are taken, and where results go."""

    storage: Literal["float32", "float16"] = "float32"
    """Type of the activation files."""
    precision: Precision = "float32"
    """Type of the forward pass."""
    cache: Path = Path("brain_cache")
    """Folder of the activations; they are reused as long as nothing they depend on changes."""
    name: str = ""
    """How results call the model."""
    out: Path | None = None
    """results.json to add to, or its folder; the run's own, else brain_results/MODEL/."""
    overwrite: bool = False
    """Write to folders although they hold what we did not make."""

    def load(self) -> Classifier:
        """Load the model; random weights follow from the seed."""
        import torch

        torch.manual_seed(self.seed)
        classifier = super().load()
        if self.name:
            classifier.name = self.name
        file = self.results_file(classifier)
        self._results_folder(file, check_folder)
        check_folder(self.cache, "activations", overwrite=self.overwrite, option="--cache")
        if not Path(self.model).is_dir() or self.out is not None:
            Results.check_owner(file, self._place())
        return classifier

    def _results_folder(self, results: Path, how: Callable[..., object]) -> None:
        """Check or claim the folder of the results, unless their file was named."""
        if results != self.out:
            how(results.parent, "evaluation", also=("run", "model"), overwrite=self.overwrite)

    def _place(self) -> str:
        return f"{model_place(self.model, self.checkpoint)} {self.name}".strip()

    def torch_device(self) -> str:
        """The device that --device means here."""
        return str(resolve_device(self.device))

    def extraction(self, again: bool = False) -> Extraction:
        """How activations are taken; claims the folders, as all input is read by now.

        Args:
            again: This command has taken these activations already: what it restarted stays.
        """
        if self.out is not None and self.out.suffix != ".json":
            self._results_folder(self.out / "results.json", claim_folder)
        claim_folder(self.cache, "activations", overwrite=self.overwrite, option="--cache")
        return Extraction(
            batch_size=self.batch_size,
            degrees=self.degrees_of_view,
            storage=self.storage,
            precision=self.precision,
            device=self.torch_device(),
            restart=self.restart and not again,
            check_content=self.check_content,
        )

    def results_file(self, classifier: Classifier) -> Path:
        """The results file to add to."""
        folder = Path(self.model)
        if self.out is not None:
            return self.out if self.out.suffix == ".json" else self.out / "results.json"
        if folder.is_dir():
            return folder / "results.json"
        return Path("brain_results") / folder_name(classifier.name) / "results.json"

    def _context(self) -> dict[str, str]:
        own = Path(self.model).is_dir() and self.out is None
        return {} if own else {"model_place": self._place()}

    def write(
        self, kind: str, classifier: Classifier, fresh: Results, began: float | None = None
    ) -> Path:
        """Add what was measured to the results file, with its provenance, and say where.

        Args:
            kind: Name of the subcommand.
            classifier: What was measured.
            fresh: What came of it.
            began: When it began, of `time.perf_counter`.
        """
        records = [record.made_in(self.precision) for record in fresh.records]
        fresh = dataclasses.replace(fresh, records=records)
        made = provenance(
            f"brain {kind}",
            model=classifier.name,
            fingerprint=model_fingerprint(classifier),
            seed=self.seed,
            seconds=None if began is None else time.perf_counter() - began,
        )
        if not current_processes().main:
            return self.results_file(classifier)
        file = self.results_file(classifier)
        self._results_folder(file, claim_folder)
        path = store(fresh, file, made, self._context())
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
