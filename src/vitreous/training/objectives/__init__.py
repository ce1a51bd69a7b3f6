"""Objectives: what the training loss adds up. A new one is one small file here."""

from vitreous.data.batch import Batch
from vitreous.training.objectives.base import OBJECTIVES, LossTerm, Objective, Step

__all__ = ["OBJECTIVES", "Batch", "LossTerm", "Objective", "Step"]
