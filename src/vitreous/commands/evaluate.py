"""Measure accuracy and explanations on test sets, or make an SI-Score-like set.

What is missing is named and passed over; a killed evaluation goes on where it was when the same
command runs again. Several processes share the work: `torchrun --nproc-per-node 4 -m vitreous.cli
evaluate …`. With several models the first is the one that the others are compared with.

Example:
    vitreous evaluate runs/x --suite imagenet-shifts --root /data
    vitreous evaluate runs/before runs/after --data photos/ --rotation 90 180 270
    vitreous evaluate --generate.cutouts cutouts/ --generate.backgrounds grounds/ --out set/
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vitreous.commands.options import (
    BatchOption,
    BatchSize,
    DeviceOption,
    LimitOption,
    PrecisionOption,
    QuietOption,
    ResumeOptions,
    WorkersOption,
    resolve_device,
)
from vitreous.data.composites.compositing import Factor
from vitreous.data.composites.cutouts import find_cutouts
from vitreous.data.composites.sets import Plan, plan, write_composites
from vitreous.data.images import list_images
from vitreous.data.mask_files import MaskFormat
from vitreous.errors import VitreousError, nearest
from vitreous.evaluation.corruptions import CORRUPTIONS
from vitreous.evaluation.evaluators.corruption import paper_corruptions
from vitreous.evaluation.evaluators.explanation import ExplanationSettings
from vitreous.evaluation.run import Evaluation, Place, compare, evaluate
from vitreous.evaluation.segmentation import TOLERANCE
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import MaskedSettings, SetSettings, Suite, combine, load_suite
from vitreous.evaluation.test_sets import TEST_SETS, TestSet, read_set
from vitreous.models import Classifier, Preprocessing, load_model
from vitreous.names import distinct_names, folder_name
from vitreous.processes import Processes, current_processes
from vitreous.provenance import provenance
from vitreous.results import Record, Results


@dataclasses.dataclass
class Generate:
    """Make an SI-Score-like set from cut-outs and backgrounds."""

    cutouts: Path | None = None
    """Folder of cut-outs: CLASS/name.png with transparency."""
    backgrounds: Path | None = None
    """Folder of background pictures."""
    factor: Factor = "location"
    """What varies: location, rotation, size, or all of it at random."""
    steps: int | None = None
    """Length of the grid; SI-Score's own (21 × 21 places, 18 angles, 100 sizes) by default."""
    backgrounds_per_cutout: int = 2
    """On how many backgrounds each cut-out is shown."""
    minimum_inside: float = 0.0
    """Leave out placements with a smaller share of the cut-out in the picture."""
    size: int = 500
    """Height and width of the pictures."""
    seed: int = 0
    """Everything follows from it."""

    def write(self, out: Path) -> Path:
        """Write the set."""
        if self.cutouts is None or self.backgrounds is None:
            raise VitreousError("give both --generate.cutouts and --generate.backgrounds")
        cutouts, names = find_cutouts(self.cutouts)
        grounds = list_images(self.backgrounds)
        scenes = plan(
            cutouts,
            grounds,
            self.factor,
            steps=self.steps,
            backgrounds_per_cutout=self.backgrounds_per_cutout,
            minimum_inside=self.minimum_inside,
            size=self.size,
            seed=self.seed,
        )
        items = Plan(cutouts, grounds, scenes, names, self.size)
        return write_composites(items, out, self.factor)


@dataclasses.dataclass
class Input:
    """Preprocessing instead of the model's own; what is not given stays the model's."""

    size: int | None = None
    """Height and width in pixels."""
    crop_ratio: float | None = None
    """Share of the resized picture that the centre crop keeps."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] | None = None
    """How pictures are resized."""
    crop_mode: Literal["center", "squash"] | None = None
    """Crop the centre, or squash the picture to the input."""

    def change(self, own: Preprocessing) -> Preprocessing | None:
        """The preprocessing, or None where nothing was asked."""
        given: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None}
        if "size" in given:
            given["size"] = (given["size"], given["size"])
        return dataclasses.replace(own, **given) if given else None


@dataclasses.dataclass(kw_only=True)
class Command(
    DeviceOption,
    PrecisionOption,
    BatchOption,
    WorkersOption,
    LimitOption,
    ResumeOptions,
    QuietOption,
):
    """Settings of `vitreous evaluate`."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """timm names, run folders or checkpoint files; the first is compared with."""
    checkpoint: Path | None = None
    """Weights for a timm name."""
    suite: tuple[str, ...] = ()
    """Suites of the package (imagenet-shifts, imagenet-c, shape-bias, rotation, perturbations,
    explanations, tiny-imagenet) or YAML files."""
    sets: tuple[str, ...] = ()
    """Single test sets, for example imagenet-a, or NAME=FOLDER."""
    root: Path | None = None
    """Folder below which sets are looked for by their usual names."""
    data: tuple[Path, ...] = ()
    """Pictures of yours: folders of class folders, CSV files (path,label), tar shards."""
    class_map: Path | None = None
    """JSON for your pictures: label → class index, WordNet id, name, or a list of them."""
    label_column: str = "label"
    """Column of a CSV file that holds the label."""
    shifted: bool = False
    """Your pictures differ from those of training."""
    rotation: tuple[float, ...] = ()
    """Angles in degrees at which clean sets (or all, if none is clean) are measured again."""
    disc: bool = False
    """Turn only the inscribed disc, so that angles are comparable."""
    noise: tuple[int, ...] = ()
    """Severities (1 to 5) of Gaussian noise at which these sets are measured again."""
    blur: tuple[int, ...] = ()
    """Severities (1 to 5) of Gaussian blur at which these sets are measured again."""
    corruptions: tuple[str, ...] = ()
    """Corruptions of ImageNet-C, made in memory, at which these sets are measured again (snow,
    jpeg_compression, …); all: the 15 of the paper."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Severities of these corruptions."""
    masks: Path | None = None
    """Folder of masks for --data: explanations are measured on it."""
    mask_format: MaskFormat = "binary"
    """How mask files are read: binary, or imagenet_s (class = R + 256·G)."""
    segmentation: Path | None = None
    """ImageNet-Segmentation's file (gtsegs_ijcv.mat): explanations are measured on it."""
    methods: tuple[str, ...] = ()
    """Relevance methods, all in one pass; those of the suite, or gradient_attention."""
    removal: bool = True
    """Also remove pixels by their relevance (18 more forward passes for each method)."""
    squash: bool = True
    """For explanations: resize pictures whatever their shape, as ImageNet-Segmentation does."""
    tolerance: int = TOLERANCE
    """Of the pointing game: how near, in pixels, the foreground has to be."""
    out: Path | None = None
    """Folder of results.json; a run's own folder, or evaluation/MODEL, by default. With several
    models a folder for each is made in it."""
    samples: int = 6
    """How many best and worst pictures of each set are kept."""
    batch_size: BatchSize = 64
    input: Input = dataclasses.field(default_factory=Input)
    """Preprocessing instead of the model's own."""
    generate: Generate = dataclasses.field(default_factory=Generate)
    """Make an SI-Score-like set."""

    def run(self) -> None:
        """Evaluate, write results.json and say where it is."""
        if self.generate.cutouts is not None or self.generate.backgrounds is not None:
            folder = self.generate.write(self.out or Path(f"si-score-{self.generate.factor}"))
            print(f"set: {folder}")
            return
        if not self.models:
            raise VitreousError("give one model or several: a timm name, run folder or checkpoint")
        suite = self._suite()
        processes = current_processes(cpu=self.device == "cpu")
        first: tuple[str, Evaluation] | None = None
        device = resolve_device(self.device, processes.rank)
        for text, name in zip(self.models, distinct_names(self.models)):
            started = time.perf_counter()
            classifier = load_model(text, checkpoint=self.checkpoint, device=device)
            classifier.name = name
            out = self._out(text, name)
            done = self._evaluate(classifier, suite, out, processes)
            if first is not None:
                done.records += compare(first[1], done, first[0])
            first = first or (classifier.name, done)
            if processes.main:
                _report(classifier, done, out, time.perf_counter() - started)

    def _evaluate(
        self, classifier: Classifier, suite: Suite, out: Path, processes: Processes
    ) -> Evaluation:
        streaming = StreamSettings(
            batch_size=self.batch_size,
            workers=self.workers,
            precision=self.precision,
            preprocessing=self.input.change(classifier.preprocessing),
            limit=self.limit,
            progress=processes.main and not self.quiet,
            restart=self.restart,
            check_content=self.check_content,
        )
        names = distinct_names(self.data)
        sets = [s for p, name in zip(self.data, names) for s in self._own(p, name, classifier)]
        return evaluate(
            classifier,
            suite,
            Place(self.root, out, self.samples),
            sets=sets,
            streaming=streaming,
            explaining=ExplanationSettings(squash=self.squash, tolerance=self.tolerance),
            processes=processes,
        )

    def _own(self, path: Path, name: str, classifier: Classifier) -> list[TestSet]:
        parts = read_set(
            "folder",
            path,
            class_map=self.class_map,
            label_column=self.label_column,
            shifted=self.shifted,
            class_names=tuple(classifier.class_names),
            num_classes=classifier.num_classes,
        )
        return [dataclasses.replace(s, name=name, source=str(path.absolute())) for s in parts]

    def _suite(self) -> Suite:
        single = tuple(_named(text) for text in self.sets)
        masked = [
            MaskedSettings(name, path.absolute(), self.masks, self.mask_format, self.class_map)
            for path, name in zip(self.data, distinct_names(self.data))
            if self.masks
        ]
        if self.segmentation is not None:
            masked.append(MaskedSettings("imagenet-segmentation", self.segmentation.absolute()))
        own = Suite(
            "",
            single,
            self.rotation,
            self.disc,
            self._perturbations(),
            tuple(masked),
            self.methods or ("gradient_attention",),
            self.removal,
        )
        suites = [load_suite(name) for name in self.suite]
        if not suites and not self.sets and not self.data and not masked:
            raise VitreousError("give --suite, --sets, --data or --segmentation: what to measure")
        both = combine([*suites, own])
        return dataclasses.replace(both, methods=self.methods) if self.methods else both

    def _perturbations(self) -> dict[str, tuple[int, ...]]:
        """Corruption → severities."""
        kinds = [k for k in self.corruptions if k != "all"]
        kinds += paper_corruptions() if "all" in self.corruptions else []
        if unknown := [k for k in kinds if k not in CORRUPTIONS]:
            raise VitreousError(
                f"unknown corruption '{unknown[0]}'; {nearest(unknown[0], CORRUPTIONS)}"
            )
        own = {"gaussian_noise": self.noise, "gaussian_blur": self.blur}
        given = {**dict.fromkeys(kinds, self.severities), **{k: v for k, v in own.items() if v}}
        return {kind: severities for kind, severities in given.items() if severities}

    def _out(self, text: str, name: str) -> Path:
        if self.out is not None:
            return self.out / folder_name(name) if len(self.models) > 1 else self.out
        path = Path(text).expanduser()
        return path if path.is_dir() else Path("evaluation") / folder_name(name)


def _named(text: str) -> SetSettings:
    name, _, folder = text.partition("=")
    if name not in TEST_SETS:
        TEST_SETS[name]
    return SetSettings(name, Path(folder).absolute() if folder else None)


def _report(classifier: Classifier, done: Evaluation, out: Path, seconds: float) -> None:
    """Add to results.json and print the headline numbers."""
    made = provenance("evaluate", model=classifier.name, fingerprint=done.model, seconds=seconds)
    extra = {"evaluation": done.entries}
    Results.update(out, done.records, made, extra=extra, context={"not_measured": done.problems})
    print(f"{classifier.name}:")
    for record in done.records:
        if record.metric not in ("unreadable", "constant_maps") or record.value:
            print(f"  {_line(record)}")
    for problem in done.problems:
        print(f"  not measured: {problem}")
    for folder in done.tables:
        print(f"predictions: {folder / 'predictions.csv'}")
    print(f"results: {out / 'results.json'}")


def _line(record: Record) -> str:
    settings = ", ".join(f"{k} {v}" for k, v in record.settings.items())
    interval = ""
    if record.ci95 is not None:
        interval = f" [{record.ci95[0]:.4f}, {record.ci95[1]:.4f}]"
    name = f"{record.suite:<11} {record.dataset:<24} {record.metric:<18}"
    return f"{name} {record.value:.4f}{interval} n={record.n} ({settings})"
