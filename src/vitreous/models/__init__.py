"""Models: `Classifier`, loading, families, and the one forward pass that every room asks for."""

from vitreous.models.classifier import Classifier
from vitreous.models.loading import load_model, save_model
from vitreous.models.preprocessing import Preprocessing

__all__ = ["Classifier", "Preprocessing", "load_model", "save_model"]
