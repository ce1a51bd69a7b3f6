"""A recipe is the experiment: typed settings, YAML files, the ones that ship with the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from timm.optim import list_optimizers

from vitreous.config import Values, build, merge, part, parts, read_yaml
from vitreous.data.readers import READERS, Reader
from vitreous.data.readers.base import Split
from vitreous.data.transforms import TRANSFORMS, Transform
from vitreous.errors import MissingKeysError, VitreousError, nearest
from vitreous.models import Classifier, load_model
from vitreous.models.class_words import imagenet_index, imagenet_labels
from vitreous.ranges import PIXELS, SEED, above, at_least
from vitreous.recipes import list_recipes, recipe_folder
from vitreous.training.adversaries import ADVERSARIES, Adversary
from vitreous.training.mixing import MixingSettings
from vitreous.training.objectives import OBJECTIVES, Objective
from vitreous.training.robust_validation import RobustValidationSettings
from vitreous.training.schedules import SCHEDULES, Schedule

OPTIMIZERS = ("adamw", "adam", "sgd")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Which model; see `vitreous.load_model`.

    Attributes:
        name: timm name with its tag, `local-dir:…`, a folder, or a checkpoint file.
        checkpoint: Weights to load into that architecture.
        pretrained: Use timm's weights where no checkpoint is given.
        num_classes: Size of the head.
        image_size: Input size in pixels.
        normalization: `model`, `half` (0.5 for all, as RobustViT's scripts use) or `imagenet` (as
            CrossViT Adv+Rot's use).
        options: More arguments of the architecture.
        new_head: Go on where the head starts anew although an objective keeps the model's own
            prediction.
    """

    name: str
    checkpoint: str | None = None
    pretrained: bool = True
    num_classes: Annotated[int, at_least(1)] | None = None
    image_size: Annotated[int, PIXELS] | None = None
    normalization: Literal["model", "half", "imagenet"] = "model"
    options: Values = dataclasses.field(default_factory=dict)
    new_head: bool = False

    def load(self, class_names: list[str] | None = None) -> Classifier:
        """Load the model; with class names, the head gets that size unless one is given."""
        count = self.num_classes
        if count is None and class_names:
            count = len(class_names)
        return load_model(
            self.name,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            num_classes=count,
            image_size=self.image_size,
            normalization=self.normalization,
            class_names=class_names or (),
            **self.options,
        )


@dataclasses.dataclass(frozen=True)
class TransformSettings:
    """How pictures are seen in training and in validation; in order, name → settings."""

    train: dict[str, Transform] = parts(TRANSFORMS)
    validation: dict[str, Transform] = parts(TRANSFORMS)


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser.

    Attributes:
        name: `adamw` (decoupled weight decay), `adam` (weight decay as an L2 term) or `sgd` (plain
            momentum), or any of timm's (`timm.optim.list_optimizers()`).
        lr: Base learning rate.
        weight_decay: On all weights.
        betas: Of Adam.
        momentum: Of SGD, and of those of timm's that have one.
        layer_decay: Factor of the learning rate from each layer to the one below it, as timm
            counts layers; none where not given.
        decay_biases: Put weight decay on biases, norms and what the model exempts, too.
        warmup: Epochs during which the learning rate grows linearly from 0 to the schedule's.
        options: More arguments of timm's optimiser.
    """

    name: str = "adamw"
    lr: Annotated[float, above(0)] = 1e-4
    weight_decay: Annotated[float, at_least(0)] = 0.0
    betas: Annotated[tuple[float, float], at_least(0, below=1)] = (0.9, 0.999)
    momentum: Annotated[float, at_least(0, below=1)] = 0.9
    layer_decay: Annotated[float, above(0)] | None = None
    decay_biases: bool = True
    warmup: Annotated[float, at_least(0)] = 0.0
    options: Values = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            names = [str(name) for name in list_optimizers()]
            if self.name in names:
                return
            raise ValueError(f"unknown optimizer '{self.name}'; {nearest(self.name, names)}")
        if self.options and self.name in OPTIMIZERS:
            raise ValueError(f"options are for timm's optimizers; {self.name} has none")

    def rate(self, scheduled: float, epoch: float) -> float:
        """The schedule's learning rate, less during the warm-up."""
        return scheduled * epoch / self.warmup if epoch < self.warmup else scheduled


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The loop.

    Attributes:
        epochs: Passes over the training pictures.
        batch_size: Pictures an optimiser step, over all processes.
        validation_batch_size: Pictures a validation batch, over all processes.
        accumulation: Parts into which each batch is cut to save memory; the step is the same.
        precision: `float32`, `bfloat16`, or `float16` with loss scaling.
        clip_norm: Largest norm of the gradient; none where not given.
        compile: Use `torch.compile`; not with objectives that record attention.
        shuffle: Shuffle each epoch (RobustViT's published loop does not).
        seed: Of everything.
        workers: Processes that read pictures.
        checkpoint_every: Steps between two resumable checkpoints; one each epoch in any case.
        trackers: Any that Accelerate knows: `tensorboard`, `wandb` (offline unless it is told
            otherwise), `mlflow`, `trackio`, ….
        samples: How many validation pictures are shown with relevance before and after.
        continue_from: A checkpoint of the published scripts, of either paper: the run takes up its
            weights, its optimiser's state and its count of epochs.
        freeze: Patterns (`patch_embed.*`, `blocks.[0-5].*`) of the weights that stay as they are.
        ema: Decay of a moving average of the weights (timm's), which is then what is validated
            and kept; none where not given.
        gradient_checkpointing: Compute blocks again in each backward pass and hold less: the
            memory of one block in place of all, for about a third more work.
        sharding: `fsdp2` cuts weights, gradients and the optimiser's state among the processes;
            nothing of it with one process.
        lora_rank: Train LoRA matrices of this rank, and the head, in place of the weights (peft);
            what is kept is merged. None where not given.
        lora_alpha: What they add is multiplied by `lora_alpha / lora_rank`.
        lora_targets: Last names of the layers that get them.
    """

    epochs: Annotated[int, at_least(1)] = 10
    batch_size: Annotated[int, at_least(1)] = 8
    validation_batch_size: Annotated[int, at_least(1)] = 32
    accumulation: Annotated[int, at_least(1)] = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    clip_norm: Annotated[float, above(0)] | None = None
    compile: bool = False
    shuffle: bool = True
    seed: Annotated[int, SEED] = 0
    workers: Annotated[int, at_least(0, at_most=512)] = 0
    checkpoint_every: Annotated[int, at_least(1)] | None = None
    trackers: tuple[str, ...] = ("tensorboard",)
    samples: Annotated[int, at_least(0)] = 8
    continue_from: str | None = None
    freeze: tuple[str, ...] = ()
    ema: Annotated[float, at_least(0, below=1)] | None = None
    gradient_checkpointing: bool = False
    sharding: Literal["none", "fsdp2"] = "none"
    lora_rank: Annotated[int, at_least(1)] | None = None
    lora_alpha: Annotated[float, above(0)] = 16.0
    lora_targets: tuple[str, ...] = ("qkv",)

    def __post_init__(self) -> None:
        for name in self.trackers:
            if name not in LOGGER_TYPE_TO_CLASS:
                raise ValueError(f"unknown tracker '{name}'; {nearest(name, LOGGER_TYPE_TO_CLASS)}")
        if self.compile and self.gradient_checkpointing:
            raise ValueError("compile does not go with gradient_checkpointing; set one off")
        if self.lora_rank is not None and (self.freeze or self.continue_from):
            other = "freeze" if self.freeze else "continue_from"
            raise ValueError(f"lora_rank does not go with {other}; set one off")


@dataclasses.dataclass(frozen=True)
class SelectionSettings:
    """Which epoch is the best one.

    Attributes:
        metric: A logged figure, for example `validation/loss` or `validation/accuracy`. Where not
            given: `validation/robust_accuracy` with an adversary, else `validation/loss`.
        mode: `min` or `max`; for losses `min`, for all else `max` where not given.
    """

    metric: str | None = None
    mode: Literal["min", "max"] | None = None

    def resolve(self, robust: bool) -> SelectionSettings:
        """Fill in what is not given."""
        default = "validation/robust_accuracy" if robust else "validation/loss"
        metric = self.metric or default
        return SelectionSettings(metric, self.mode or ("min" if "loss" in metric else "max"))

    def value_of(self, figures: Mapping[str, float]) -> float | None:
        """The figure of a validation that decides; None where nothing was measured.

        Raises:
            VitreousError: If other figures were measured, but not this one; names them.
        """
        name = str(self.metric).removeprefix("validation/")
        if figures and name not in figures:
            raise VitreousError(
                f"selection.metric: no figure '{self.metric}'; there are "
                + ", ".join(f"validation/{key}" for key in figures)
            )
        return figures.get(name)

    def better(self, new: float, old: float | None) -> bool:
        """Whether a value beats the best so far."""
        return old is None or (new < old if self.mode == "min" else new > old)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One experiment, whole.

    Attributes:
        model: Which model.
        data: Where pictures, labels and masks come from.
        transforms: How pictures are seen.
        mixing: Mixup and CutMix of the pictures of a step; none where not given.
        adversary: What perturbs the pictures of a step; none where not given.
        objectives: What the loss adds up: name → settings with `weight`.
        optimizer: The optimiser.
        schedule: The learning rate over time.
        training: The loop.
        selection: Which epoch is kept.
        robust_validation: PGD on held-out pictures each epoch, where there is an adversary.
        description: What it is, and its source.
        expect: Time and result to expect.

    Examples:
        >>> recipe = load_recipe("demo/shortcut", {"training": {"epochs": 1}})
        >>> recipe.model.name, sorted(recipe.objectives)
        ('vitreous-demo/pretrained', ['classification'])
    """

    model: ModelSettings
    data: Reader = part(READERS)
    transforms: TransformSettings = dataclasses.field(default_factory=TransformSettings)
    mixing: MixingSettings = dataclasses.field(default_factory=MixingSettings)
    adversary: Adversary | None = part(ADVERSARIES)
    objectives: dict[str, Objective] = parts(OBJECTIVES)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    schedule: Schedule = part(SCHEDULES, "constant")
    training: TrainingSettings = dataclasses.field(default_factory=TrainingSettings)
    selection: SelectionSettings = dataclasses.field(default_factory=SelectionSettings)
    robust_validation: RobustValidationSettings = dataclasses.field(
        default_factory=RobustValidationSettings
    )
    description: str = ""
    expect: str = ""

    def __post_init__(self) -> None:
        if self.data is None:
            raise ValueError("missing key 'data'")
        if not self.objectives:
            raise ValueError("objectives: expected at least one")
        robust = self.adversary is not None and self.robust_validation.images > 0
        # The one field that depends on others: the stored recipe says what was chosen by.
        object.__setattr__(self, "selection", self.selection.resolve(robust))
        carries_over = self.adversary is not None and self.adversary.carries_over
        if carries_over and self.training.accumulation > 1:
            raise ValueError(
                "adversary.random_start false carries perturbations from row to row of whole "
                "batches; set training.accumulation 1 or adversary.random_start true"
            )
        if self.mixing.active:
            self._check_mixing()
        if self.training.compile and "attention" in self.needs:
            raise ValueError(
                "training.compile does not go with objectives that record attention; set one off"
            )

    def _check_mixing(self) -> None:
        """Refuse what asks for an image that is one."""
        others = [name for name in self.objectives if name != "classification"]
        reason, other = "", "that off"
        if others:
            reason = f"objective {others[0]} is of one picture with one label, one mask, one map"
            other = f"objectives.{others[0]} to false"
        elif getattr(self.objectives["classification"], "target", "label") != "label":
            reason = "objectives.classification.target prediction leaves mixed labels unused"
        elif self.adversary is not None:
            reason = "the adversary attacks the one label of a picture"
        if reason:
            raise ValueError(f"mixing.mixup and mixing.cutmix: {reason}; set them to 0, or {other}")

    def load_with_data(self, split: Split) -> tuple[Classifier, Split]:
        """Load the model for some data, whose labels become places in the head that is kept.

        Class folders named by WordNet ids of ImageNet go with a head of its 1000 classes, unless
        `model.num_classes` or `model.new_head` asks for a head of their own.

        Raises:
            VitreousError: As `load_model`.
        """
        own = self.model.num_classes is not None or self.model.new_head
        loaded = self.model.pretrained or self.model.checkpoint is not None
        names = split.class_names
        if own or not loaded or len(names) == 1000 or not set(names) <= set(imagenet_index()):
            return self.load_model(names), split
        whole = self.model.load()
        placed = None if whole.new_head else imagenet_labels(names, whole.class_names)
        if placed is None:
            return self.load_model(names), split
        return whole, split.relabelled(placed, whole.class_names)

    def load_model(self, class_names: list[str] | None = None) -> Classifier:
        """Load the model for some classes.

        Raises:
            VitreousError: If its head starts anew and an objective keeps its own prediction, which
                would be noise, unless `model.new_head` is set.
        """
        classifier = self.model.load(class_names)
        keeping = [
            n for n, o in self.objectives.items() if getattr(o, "target", "") == "prediction"
        ]
        if classifier.new_head and keeping and not self.model.new_head:
            raise VitreousError(
                f"the head of {classifier.name} does not fit the {classifier.num_classes} classes "
                f"of the data and would start at random, but objective '{keeping[0]}' keeps the "
                "model's own prediction; give weights of these classes, --objectives."
                f"{keeping[0]}.target label, or --model.new_head true"
            )
        return classifier

    @property
    def needs(self) -> frozenset[str]:
        """What the objectives need, together."""
        return frozenset().union(*(o.needs for o in self.objectives.values()))


def recipe_values(name: str) -> Values:
    """Plain values of a recipe by name or file, laid over those that it `extends`.

    Raises:
        VitreousError: For an unknown name, a file that is not YAML, or a circle of `extends`.
    """
    return _values(name, Path.cwd(), ())


def _values(name: str, base: Path, seen: tuple[str, ...]) -> Values:
    name = name.replace("own_normalisation", "own_normalization")  # as it was called before
    shipped = recipe_folder() / f"{name}.yaml"
    local = (base / name).expanduser()
    path = local if local.suffix in (".yaml", ".yml") else shipped
    if not path.is_file():
        if path is local:
            raise VitreousError(f"no recipe at {path}")
        raise VitreousError(f"unknown recipe '{name}'; {nearest(name, list_recipes())}")
    if str(path) in seen:
        raise VitreousError(f"recipes extend each other in a circle: {' → '.join([*seen, name])}")
    values = read_yaml(path)
    parent = values.pop("extends", None)
    if parent is None:
        return values
    return merge(_values(str(parent), path.parent, (*seen, str(path))), values)


def load_recipe(name: str, overrides: Values | None = None) -> Recipe:
    """Load a recipe by name or file, with overrides laid over it.

    Raises:
        VitreousError: For unknown or ill-typed keys, with the nearest valid name.

    Examples:
        >>> recipe = load_recipe("demo/shortcut", {"training": {"epochs": 1}})
        >>> recipe.training.epochs, recipe.training.batch_size
        (1, 64)
    """
    values = merge(recipe_values(name), overrides or {})
    try:
        return build(Recipe, values)
    except MissingKeysError as error:
        options = " ".join(f"--{key} VALUE" for key in error.keys if "." in key)
        advice = f"; give {options}, or write a recipe of your own" if options else ""
        raise MissingKeysError(error.keys, advice) from None
