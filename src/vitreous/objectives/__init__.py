"""Objectives: what the training loss adds up. A new one is one small file here."""

from vitreous.data.batch import Batch
from vitreous.objectives.base import OBJECTIVES, Objective, Outcome, Step

__all__ = ["OBJECTIVES", "Batch", "Objective", "Outcome", "Step"]
