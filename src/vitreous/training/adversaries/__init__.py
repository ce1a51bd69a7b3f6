"""Adversaries: what perturbs the images of a training step. A new one is one small file here."""

from vitreous.training.adversaries.base import ADVERSARIES, Adversary

__all__ = ["ADVERSARIES", "Adversary"]
