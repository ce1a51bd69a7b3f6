"""Training: recipes, schedules, the engine, and the run folder that it leaves."""

from vitreous.training.engine import train
from vitreous.training.recipe import Recipe, list_recipes, load_recipe

__all__ = ["Recipe", "list_recipes", "load_recipe", "train"]
