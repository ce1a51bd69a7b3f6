"""Words that older recipes and command lines use, and what they are called now."""

from __future__ import annotations

import warnings
from collections.abc import Container

RENAMED_KEYS = {
    "views": "transforms",
    "probe": "robust_validation",
    "normalisation": "normalization",
    "pictures": "images",
    "picture": "image",
    "strips": "panels",
    "step": "step_size",
    "on_bad": "on_error",
    "pca_pictures": "pca_images",
}
RENAMED_VALUES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def warn_renamed(old: str, new: str) -> None:
    """Say once what a word of an older version is called now."""
    warnings.warn(f"'{old}' is now called '{new}'", FutureWarning, stacklevel=3)


def current_name(key: str, fields: Container[str]) -> str:
    """The present name of a key that was renamed; every other key as it is."""
    new = RENAMED_KEYS.get(key)
    if key in fields or new is None or new not in fields:
        return key
    warn_renamed(key, new)
    return new
