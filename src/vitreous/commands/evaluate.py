"""Measure accuracy and explanations on test sets, or make an SI-Score-like set.

What is missing is named and passed over; a killed evaluation goes on where it was when the same
command runs again. Several processes share the work: `torchrun --nproc-per-node 4 -m vitreous.cli
evaluate …`. With several models the first is the one that the others are compared with.

Example:
    vitreous evaluate runs/x --suite imagenet-shifts --root /data
    vitreous evaluate runs/before runs/after --data photos/ --rotation 90 180 270
    vitreous evaluate --generate.cutouts cutouts/ --generate.backgrounds grounds/ --out set/
    vitreous evaluate --generate.cutouts photos/ --generate.masks masks/ --out set/
        --generate.factor background --generate.backgrounds kinds/ --generate.agreement 0.95
    vitreous evaluate --generate.cutouts photos/ --generate.masks masks/ --out exchanged/
        --generate.factor backgrounds_challenge
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.commands.options import (
    BatchOption,
    BatchSize,
    DeviceOption,
    LimitOption,
    QuietOption,
    ResumeOptions,
    WorkersOption,
    quick_imports,
)
from vitreous.errors import VitreousError
from vitreous.precision import AnyPrecision
from vitreous.ranges import FINITE, PIXELS, SEED, SHARE, STEPS, above, at_least

# As in vitreous.data.composites, data.mask_files and attribution, which import torch.
Factor = Literal["location", "rotation", "size", "random"]
Varied = Literal[Factor, "background", "backgrounds_challenge"]
MaskFormat = Literal["binary", "imagenet_s"]
Severities = Annotated[tuple[int, ...], at_least(1, at_most=5)]
TOLERANCE = 15


@dataclasses.dataclass
class Generate:
    """Make a shifted set of objects, like SI-Score, Waterbirds or the backgrounds challenge."""

    cutouts: Path | None = None
    """Folder of cut-outs: CLASS/name.png with transparency, or photographs with masks."""
    masks: Path | None = None
    """Folder of masks where cutouts are photographs; a CSV file has its own."""
    backgrounds: Path | None = None
    """Folder of background images; for background, of a folder for each KIND; for
    backgrounds_challenge none, the photographs' own serve."""
    factor: Varied = "location"
    """What varies: location, rotation, size, all of it at random; the kind of background, whose
    groups are CLASS on KIND; or, by backgrounds_challenge, what stands behind the object: its own
    background, none, that of a photograph of the same class, or of another."""
    agreement: Annotated[float, SHARE] | None = None
    """For background: share of each class's images on the kind where it is at home; each cut-out
    on every kind where not given."""
    homes: tuple[str, ...] = ()
    """For background: kind of each class, in the order of names; the kinds in turn by default."""
    steps: Annotated[int, STEPS] | None = None
    """Length of the grid; SI-Score's own (21 × 21 places, 18 angles, 100 sizes) by default."""
    backgrounds_per_cutout: Annotated[int, at_least(1)] | None = None
    """On how many backgrounds each cut-out is shown; 2 by default."""
    minimum_inside: Annotated[float, SHARE] = 0.0
    """Leave out placements with a smaller share of the cut-out in the image."""
    size: Annotated[int, PIXELS] | None = None
    """Height and width of the images, 500 by default; in backgrounds_challenge photographs keep
    their own."""
    seed: Annotated[int, SEED] = 0
    """Everything follows from it."""


@dataclasses.dataclass
class Input:
    """Preprocessing instead of the model's own; what is not given stays the model's."""

    size: Annotated[int, PIXELS] | None = None
    """Height and width in pixels."""
    crop_ratio: Annotated[float, above(0, at_most=4)] | None = None
    """Share of the resized image that the centre crop keeps."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] | None = None
    """How images are resized."""
    crop_mode: Literal["center", "squash"] | None = None
    """Crop the centre, or squash the image to the input."""
    decoding: Literal["exact", "reduced", "whole"] | None = None
    """reduced: JPEGs at a half, a quarter or an eighth of their size, where that is enough for the
    input; faster for large photographs, and other pixels than exact. whole: timm's pixels to the
    last bit; exact resizes only what the crop shows, and 7 of 100,000 bytes are other ones."""


@dataclasses.dataclass(kw_only=True)
class Command(
    DeviceOption,
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
    precision: AnyPrecision = "float32"
    """Type of the forward pass; auto: bfloat16 where the device is fast at it and no explanation
    is measured, else float32."""
    suite: tuple[str, ...] = ()
    """Suites of the package (imagenet-shifts, imagenet-c, shape-bias, rotation, perturbations,
    explanations, tiny-imagenet) or YAML files."""
    sets: tuple[str, ...] = ()
    """Single test sets, for example imagenet-a, or NAME=FOLDER."""
    root: Path | None = None
    """Folder below which sets are looked for by their usual names."""
    data: tuple[Path, ...] = ()
    """Images of yours: folders of class folders, CSV files (path,label), tar shards."""
    class_map: Path | None = None
    """JSON for your images: label → class index, WordNet id, name, or a list of them."""
    label_column: str = "label"
    """Column of a CSV file that holds the label."""
    group_column: str = "group"
    """Column of a table of yours that holds the group (place, source, attribute) of an image."""
    groups: Path | None = None
    """CSV file (path,group) for images without such a column: accuracy by group, the worst."""
    shifted: bool = False
    """Your images differ from those of training."""
    rotation: Annotated[tuple[float, ...], FINITE] = ()
    """Angles in degrees at which clean sets (or all, if none is clean) are measured again."""
    disc: bool = False
    """Turn only the inscribed disc, so that angles are comparable."""
    noise: Severities = ()
    """Severities (1 to 5) of Gaussian noise at which these sets are measured again."""
    blur: Severities = ()
    """Severities (1 to 5) of Gaussian blur at which these sets are measured again."""
    corruptions: tuple[str, ...] = ()
    """Corruptions of ImageNet-C, made in memory, at which these sets are measured again (snow,
    jpeg_compression, …); all: the 15 of the paper."""
    severities: Severities = (1, 2, 3, 4, 5)
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
    """Leave out the removal of pixels by their relevance (18 forward passes for each method)."""
    squash: bool = True
    """For explanations: crop as the model does, do not resize whatever the shape."""
    tolerance: Annotated[int, at_least(0, at_most=16384)] = TOLERANCE
    """Of the pointing game: how near, in pixels, the foreground has to be."""
    out: Path | None = None
    """Folder of results.json; a run's own folder, or evaluation/MODEL, by default. With several
    models a folder for each is made in it."""
    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make."""
    samples: Annotated[int, at_least(0)] = 6
    """How many best and worst images of each set are kept."""
    batch_size: BatchSize = 64
    input: Input = dataclasses.field(default_factory=Input)
    """Preprocessing instead of the model's own."""
    generate: Generate = dataclasses.field(default_factory=Generate)
    """Make a shifted set."""

    def run(self) -> None:
        """Evaluate, write results.json and say where it is."""
        making = self.generate.cutouts is not None or self.generate.backgrounds is not None
        if not making and not self.models:
            raise VitreousError("give one model or several: a timm name, run folder or checkpoint")
        with quick_imports():
            from vitreous.commands.evaluating import evaluate_models
            from vitreous.commands.generating import make_set

        if making:
            make_set(self)
        else:
            evaluate_models(self)
