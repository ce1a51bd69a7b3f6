"""The corruptions of ImageNet-C, computed as they are asked for, at severities 1 to 5."""

from vitreous.evaluation.corruptions.base import CORRUPTIONS, SEVERITIES, corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]
