"""Random and fixed transforms that move image and mask together."""

from vitreous.data.transforms.base import TRANSFORMS, Transform, compose

__all__ = ["TRANSFORMS", "Transform", "compose"]
