"""Views: random and fixed transforms that move picture and mask together."""

from vitreous.data.views.base import VIEWS, View, compose

__all__ = ["VIEWS", "View", "compose"]
