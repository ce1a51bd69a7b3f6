"""Vision Transformers that look at the right thing."""

from vitreous.attention import AttentionTrace, record_attention
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model, save_model
from vitreous.relevance import explain, relevance

__all__ = [
    "AttentionTrace",
    "Classifier",
    "VitreousError",
    "explain",
    "load_model",
    "record_attention",
    "relevance",
    "save_model",
]
