"""What both studies share: how images are seen at 112 pixels, and the term that keeps answers."""

from __future__ import annotations

from typing import Any

LABEL = {"classification": {"weight": 0.2, "target": "label"}}
TRANSFORMS: dict[str, dict[str, Any]] = {
    "train": {
        "resize": {"size": 128, "square": True, "interpolation": "bicubic"},
        "random_crop": {"size": 112},
        "flip": {},
    },
    "validation": {
        "resize": {"size": 112, "interpolation": "bicubic"},
        "center_crop": {"size": 112},
    },
}
