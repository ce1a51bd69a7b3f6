"""Objectives: what the training loss adds up. A new one is one small file here."""

from vitreous.objectives.base import OBJECTIVES, Objective, Outcome, Step

__all__ = ["OBJECTIVES", "Objective", "Outcome", "Step"]
