"""What only a validation would tell is found out before the first file is written."""

from __future__ import annotations

import itertools

import torch

from vitreous.data.loading import TransformedDataset, collate
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode
from vitreous.training.recipe import Recipe
from vitreous.training.robust_validation import RobustValidation
from vitreous.training.run import random_state, restore_random_state
from vitreous.training.step import compute_loss


def rehearse(
    recipe: Recipe,
    classifier: Classifier,
    train: TransformedDataset,
    validation: TransformedDataset,
    robust: RobustValidation | None,
) -> None:
    """Put an image or two through the objectives, as a validation does, and look at its figures.

    The generators of random numbers and the model are left as they were.

    Args:
        recipe: The recipe.
        classifier: Its model, as yet unwrapped.
        train: The images that are trained on.
        validation: The images that are validated on; may be none.
        robust: The validation under attack, where there is one.

    Raises:
        VitreousError: If an objective does not take the model or the images, or `selection.metric`
            is no figure of the validation.
    """
    data = validation if len(validation) else train
    before = random_state()
    try:
        batch = collate([data[(0, index)] for index in _examples(data)]).to(classifier.device)
        with torch.no_grad(), evaluation_mode(classifier):
            loss = compute_loss(classifier, classifier, batch, recipe.objectives, progress=1.0)
    finally:
        restore_random_state(before)
    if not len(validation):
        return
    names = {key for key in loss.figures if loss.masked_rows or key not in loss.masked_figures}
    if (data.dataset.labels >= 0).any():
        names.add("accuracy")
    if robust is not None:
        names |= {"robust_accuracy", "clean_accuracy"}
    objective, _, figure = str(recipe.selection.metric).removeprefix("validation/").partition("/")
    silent = not any(name.startswith(f"{objective}/") for name in names)
    if figure and objective in recipe.objectives and silent:
        return  # these images gave it nothing to tell; the first validation decides
    recipe.selection.value_of(dict.fromkeys(sorted(names), 0.0))


def _examples(data: TransformedDataset) -> list[int]:
    """The first images: two that have masks, where there are such, else one."""
    masks = data.dataset.masks
    masked = () if masks is None else (i for i in range(len(data)) if masks.has(i))
    return list(itertools.islice(masked, 2)) or [0]
