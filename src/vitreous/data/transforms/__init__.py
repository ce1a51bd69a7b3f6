"""Views: random and fixed transforms that move picture and mask together."""

from vitreous.data.transforms.base import TRANSFORMS, Transform, compose

__all__ = ["TRANSFORMS", "Transform", "compose"]
