"""The demo's story: a model learns a shortcut, is finetuned in several ways, and is measured."""

from __future__ import annotations

import dataclasses
import shutil
import time
from importlib import resources
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from vitreous.config import Values, merge
from vitreous.data.generated.scenes import World
from vitreous.demo.masks import find_demo_masks
from vitreous.demo.measure import draw_tests, measure_models
from vitreous.demo.panels import draw_strips
from vitreous.demo.words import duration_words, summary
from vitreous.errors import VitreousError
from vitreous.io import read_json, write_json
from vitreous.models import Classifier, load_model, save_model
from vitreous.models.families import Network
from vitreous.models.fingerprint import model_fingerprint
from vitreous.provenance import provenance
from vitreous.report import write_card
from vitreous.results import Record, Results
from vitreous.training import Recipe, load_recipe, train

TITLES = {
    "shortcut": "with the shortcut",
    "plain": "finetuned plainly",
    "guided": "guided",
    "guided_tokencut": "guided, TokenCut masks",
    "swapped": "backgrounds swapped",
    "robust": "robust",
    "joint": "joint",
}
TEST_SEED = 900_001


@dataclasses.dataclass(frozen=True)
class DemoPlan:
    """How much of everything.

    Attributes:
        variants: Recipes in `demo/` that start from the model with the shortcut.
        tests: Test images in each set.
        attacked: How many of them are attacked.
        overrides: Settings laid over the recipes, by recipe.
    """

    variants: tuple[str, ...] = ("plain", "guided", "swapped", "robust", "joint")
    tests: int = 400
    attacked: int = 96
    overrides: dict[str, Values] = dataclasses.field(default_factory=dict)


SHORT = {"data": {"train": 64, "validation": 16}, "training": {"epochs": 1, "samples": 2}}
SHORT_JOINT = {
    "data": {"stream": {"train": 32}, "masked": {"train": 16, "validation": 16}},
    "training": {"epochs": 1, "samples": 2},
}
TOKENCUT = ("plain", "guided", "guided_tokencut", "swapped", "joint")
QUICK = DemoPlan(
    tests=64,
    attacked=16,
    overrides={**{name: SHORT for name in TITLES}, "joint": SHORT_JOINT},
)


@runtime_checkable
class DrawingReader(Protocol):
    """A reader that draws its images."""

    @property
    def world(self) -> World: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Demo:
    """Where and how the demo runs.

    Attributes:
        out: Folder for everything it writes.
        seed: Of training; the images stay the same.
        plan: How much of everything.
        quiet: No progress bars.
    """

    out: Path
    seed: int = 0
    plan: DemoPlan = dataclasses.field(default_factory=DemoPlan)
    quiet: bool = False

    def run(self) -> tuple[Path, list[Results]]:
        """Train, measure and write the card; goes on where an interrupted demo stopped.

        Returns:
            The card, and the results of every model.
        """
        self.check()
        start = self.pretrained()
        shortcut = self.train("shortcut", start)
        found = {}
        if "guided_tokencut" in self.plan.variants:
            items = self.recipe("guided").data.load(self.seed).train
            found["guided_tokencut"] = find_demo_masks(
                load_model(start), items, self.out / "tokencut"
            )
        runs = [shortcut, *(self.train(name, shortcut) for name in self.plan.variants)]
        for folder in runs:
            self.measure(folder, found.get(folder.name))
        models = [Results.read(folder) for folder in runs]
        return self.card(runs, models), models

    def check(self) -> None:
        """Refuse a folder that holds another demo, before anything is written."""
        settings = {"seed": self.seed, "plan": dataclasses.asdict(self.plan)}
        stored = self.out / "demo.json"
        wanted = write_json(self.out / "demo.json", settings) if not stored.is_file() else stored
        if read_json(wanted) != _plain(settings):
            raise VitreousError(
                f"{self.out} holds a demo with other settings; give another folder with --out, "
                "or remove it"
            )

    def pretrained(self) -> Path:
        """Write the small pretrained model that ships with the package, with a fresh head."""
        classifier = load_model(str(resources.files("vitreous") / "demo" / "pretrained"))
        torch.manual_seed(self.seed)
        names = self.world.classes
        return save_model(with_head(classifier, names), self.out / "pretrained")

    def recipe(self, name: str, **values: object) -> Recipe:
        """Load a recipe of the demo with the plan's overrides and the seed."""
        top = merge({"training": {"seed": self.seed}}, self.plan.overrides.get(name, {}))
        return load_recipe(f"demo/{name}", merge(top, values))

    @property
    def world(self) -> World:
        """What the images look like, from the recipe."""
        reader = self.recipe("shortcut").data
        assert isinstance(reader, DrawingReader)
        return reader.world

    def train(self, name: str, start: Path) -> Path:
        """Train by one recipe from a model, or go on where an interrupted demo stopped."""
        folder = self.out / name
        if not (folder / "results.json").is_file():
            values: Values = {"model": {"name": str(start)}}
            if name == "guided_tokencut":
                values["data"] = {"masks": str(self.out / "tokencut")}
            self.tell(f"training: {TITLES[name]}")
            train(self.recipe(name, **values), folder, quiet=self.quiet)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return folder

    def measure(self, folder: Path, masks: Record | None = None) -> None:
        """Measure a run on the test sets and add the records to its results."""
        if Results.read(folder).find(suite="clean"):
            return
        title = TITLES.get(folder.name, folder.name)
        self.tell(f"measuring: {title}")
        tests = draw_tests(self.world, self.plan.tests, TEST_SEED)
        began = time.monotonic()
        classifier = load_model(folder)
        records = measure_models(classifier, tests, self.plan.attacked, self.seed)
        draw_strips(classifier, tests, folder, seed=self.seed)
        made = provenance(
            "demo",
            model=title,
            fingerprint=model_fingerprint(classifier),
            seed=self.seed,
            seconds=time.monotonic() - began,
        )
        with Results.edit(folder, title) as results:
            results.model = title
            trained, results.records = results.records, []
            results.add([*records, *([masks] if masks else [])], made)
            results.add(trained)

    def tell(self, line: str) -> None:
        """Say which model it is at."""
        if not self.quiet:
            print(line, flush=True)

    def card(self, runs: list[Path], models: list[Results]) -> Path:
        """Write the card of all runs."""
        note = f"{summary(models)}\n{duration_words(models)}"
        title = "Vitreous demo: a shortcut, and ways out of it"
        return write_card(runs, self.out / "card.html", title=title, note=note)


def with_head(classifier: Classifier, names: tuple[str, ...]) -> Classifier:
    """Give a classifier a new head for some classes."""
    net: Network = classifier.net
    net.reset_classifier(len(names))
    if (built := classifier.architecture) is not None:
        arguments = {**built["model_args"], "num_classes": len(names)}
        classifier.architecture = {"architecture": built["architecture"], "model_args": arguments}
    classifier.class_names = list(names)
    return classifier


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value
