"""Vision Transformers that look at the right thing.

What is listed here, and every subpackage, is imported when it is first asked for: torch takes
seconds, and `vitreous --help` needs none of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.attribution import explain, relevance
    from vitreous.errors import VitreousError
    from vitreous.models import Classifier, load_model, save_model
    from vitreous.models.attention import AttentionTrace, record_attention

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

_PLACES = {
    "AttentionTrace": "models.attention",
    "Classifier": "models",
    "VitreousError": "errors",
    "explain": "attribution",
    "load_model": "models",
    "record_attention": "models.attention",
    "relevance": "attribution",
    "save_model": "models",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(f"vitreous.{_PLACES[name]}"), name)
        globals()[name] = value
        return value
    if name in _modules():
        return importlib.import_module(f"vitreous.{name}")
    raise AttributeError(f"module 'vitreous' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_modules()})


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]
