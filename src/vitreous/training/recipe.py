"""A recipe is the experiment: typed settings, YAML files, the ones that ship with the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vitreous.config import Values, build, merge, part, parts, read_yaml
from vitreous.data.readers import READERS, Reader
from vitreous.data.readers.base import Split
from vitreous.errors import MissingKeysError, VitreousError, nearest, shorten
from vitreous.io import check_path
from vitreous.models import Classifier
from vitreous.models.class_words import imagenet_index, imagenet_labels
from vitreous.recipes import list_recipes, recipe_folder
from vitreous.training.adversaries import ADVERSARIES, Adversary
from vitreous.training.mixing import MixingSettings
from vitreous.training.objectives import OBJECTIVES, Objective
from vitreous.training.objectives.base import DerivesImages, GradientWanted, MapsWanted
from vitreous.training.objectives.classification import Target, Targeted
from vitreous.training.robust_validation import RobustValidationSettings
from vitreous.training.schedules import SCHEDULES, Schedule
from vitreous.training.settings import (
    ModelSettings,
    OptimizerSettings,
    SelectionSettings,
    TrainingSettings,
    TransformSettings,
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One experiment, whole.

    Attributes:
        model: Which model.
        data: Where images, labels and masks come from.
        transforms: How images are seen.
        mixing: Mixup and CutMix of the images of a step; none where not given.
        adversary: What perturbs the images of a step; none where not given.
        objectives: What the loss adds up: name → settings with `weight`.
        optimizer: The optimiser.
        schedule: The learning rate over time.
        training: The loop.
        selection: Which epoch is kept.
        robust_validation: PGD on held-out images each epoch, where there is an adversary.
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
        if "groups" in self.needs and self.training.accumulation > 1:
            raise ValueError(
                "objectives with groups weigh those of whole batches; set training.accumulation 1"
            )
        if self.mixing.active:
            self._check_mixing()
        if self.training.compile:
            self._check_compiled()

    @property
    def maps_wanted(self) -> MapsWanted | None:
        """The maps that a compiled pass makes for all objectives that record attention."""
        asked = {o.maps_wanted for o in self.objectives.values() if "attention" in o.needs}
        return asked.pop() if len(asked) == 1 else None

    @property
    def gradients_wanted(self) -> tuple[GradientWanted, ...]:
        """The gradients for the images that a compiled pass makes."""
        return tuple(o.gradient_wanted for o in self._deriving if isinstance(o, DerivesImages))

    @property
    def _deriving(self) -> list[Objective]:
        return [o for o in self.objectives.values() if "input_gradients" in o.needs]

    def _check_compiled(self) -> None:
        """Refuse what one graph, derived once, cannot hold."""
        reason = ""
        records = "attention" in self.needs
        if len(self.gradients_wanted) < len(self._deriving):
            reason = "objectives of input gradients that derive the pass themselves"
        elif records and self.maps_wanted is None:
            reason = "objectives whose maps differ in method, start_layer, target or second_order"
        elif (records or self._deriving) and self.training.precision == "float16":
            reason = "training.precision float16 and objectives of attention or input gradients"
        if reason:
            raise ValueError(f"training.compile does not go with {reason}; set one off")

    def _check_mixing(self) -> None:
        """Refuse what asks for an image that is one."""
        others = [name for name in self.objectives if name != "classification"]
        reason, other = "", "that off"
        if others:
            reason = f"objective {others[0]} is of one picture with one label, one mask, one map"
            other = f"objectives.{others[0]} to false"
        elif "classification" in self.about("prediction"):
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
        keeping = self.about("prediction")
        if classifier.new_head and keeping and not self.model.new_head:
            raise VitreousError(
                f"the head of {classifier.name} does not fit the {classifier.num_classes} classes "
                f"of the data and would start at random, but objective '{keeping[0]}' keeps the "
                "model's own prediction; give weights of these classes, --objectives."
                f"{keeping[0]}.target label, or --model.new_head true"
            )
        return classifier

    def about(self, target: Target) -> list[str]:
        """Names of the objectives that are about the label's class, or the predicted one."""
        own = {n: o for n, o in self.objectives.items() if isinstance(o, Targeted)}
        return [name for name, objective in own.items() if objective.target == target]

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
    check_path(name, "recipe")
    name = name.replace("own_normalisation", "own_normalization")  # as it was called before
    shipped = recipe_folder() / f"{name}.yaml"
    local = (base / name).expanduser()
    path = local if local.suffix in (".yaml", ".yml") else shipped
    if not path.is_file():
        if path is local:
            raise VitreousError(f"no recipe at {path}")
        raise VitreousError(f"unknown recipe '{shorten(name)}'; {nearest(name, list_recipes())}")
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
