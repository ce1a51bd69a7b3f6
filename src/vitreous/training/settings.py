"""The parts of a recipe: model, transforms, optimizer, loop, and how the best epoch is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal

from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from timm.optim import list_optimizers

from vitreous.config import Values, parts
from vitreous.data.transforms import TRANSFORMS, Transform
from vitreous.errors import VitreousError, nearest
from vitreous.models import Classifier, load_model
from vitreous.ranges import BATCH, PIXELS, READERS, SEED, above, at_least

OPTIMIZERS = ("adamw", "adam", "sgd")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Which model; see `vitreous.load_model`.

    Attributes:
        name: timm name with its tag, `hf:owner/name`, `torchvision:vit_b_16`,
            `open_clip:ViT-B-32/TAG`, `local-dir:…`, a folder, or a checkpoint file.
        checkpoint: Weights to load into that architecture.
        pretrained: Use timm's weights where no checkpoint is given.
        num_classes: Size of the head.
        image_size: Input size in pixels.
        normalization: `model`, `half` (0.5 for all, as RobustViT's scripts use) or `imagenet` (as
            CrossViT Adv+Rot's use).
        prompts: Sentences that are the classes of a CLIP or SigLIP model, in the data's order.
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
    prompts: tuple[str, ...] = ()
    options: Values = dataclasses.field(default_factory=dict)
    new_head: bool = False

    def load(self, class_names: list[str] | None = None) -> Classifier:
        """Load the model; with class names, the head gets that size unless one is given."""
        count = self.num_classes
        if self.prompts:
            if class_names and len(class_names) != len(self.prompts):
                raise VitreousError(
                    f"model.prompts: expected a sentence for each of the {len(class_names)} "
                    f"classes of the data, found {len(self.prompts)}"
                )
        elif count is None and class_names:
            count = len(class_names)
        return load_model(
            self.name,
            checkpoint=self.checkpoint,
            pretrained=self.pretrained,
            num_classes=count,
            image_size=self.image_size,
            normalization=self.normalization,
            class_names=class_names or (),
            prompts=self.prompts,
            **self.options,
        )


@dataclasses.dataclass(frozen=True)
class TransformSettings:
    """How images are seen in training and in validation.

    Attributes:
        train: In order, name → settings.
        validation: In order, name → settings.
        decoding: `exact`, or `reduced`: in training, where the first transform is `resize` or
            `random_resized_crop` and shows a box of a JPEG at half its size or less, the JPEG is
            decoded at a half, a quarter or an eighth, which is faster and changes pixels. Boxes and
            masks are the same; validation is exact.
    """

    train: dict[str, Transform] = parts(TRANSFORMS)
    validation: dict[str, Transform] = parts(TRANSFORMS)
    decoding: Literal["exact", "reduced"] = "exact"


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
        epochs: Passes over the training images.
        batch_size: Images an optimiser step, over all processes.
        validation_batch_size: Images a validation batch, over all processes.
        accumulation: Parts into which each batch is cut to save memory; the step is the same.
        precision: `float32`, `bfloat16`, or `float16` with loss scaling.
        clip_norm: Largest norm of the gradient; none where not given.
        compile: Use `torch.compile`. A pass and what is derived of it are one graph, the
            adversary's gradient is another; they are made at the first step. One that is made
            again is told in a warning, or ends the run where this is `strict`.
        shuffle: Shuffle each epoch (RobustViT's published loop does not).
        seed: Of everything.
        workers: Processes that read images beside each model; `auto`: by the processors that each
            has, and where the model is (`vitreous.device.resolve_workers`).
        checkpoint_every: Steps between two resumable checkpoints; one each epoch in any case.
        trackers: Any that Accelerate knows: `tensorboard`, `wandb` (offline unless it is told
            otherwise), `mlflow`, `trackio`, ….
        samples: How many validation images are shown with relevance before and after.
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
    batch_size: Annotated[int, BATCH] = 8
    validation_batch_size: Annotated[int, BATCH] = 32
    accumulation: Annotated[int, at_least(1)] = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    clip_norm: Annotated[float, above(0)] | None = None
    compile: bool | Literal["strict"] = False
    shuffle: bool = True
    seed: Annotated[int, SEED] = 0
    workers: Literal["auto"] | Annotated[int, READERS] = 0
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
