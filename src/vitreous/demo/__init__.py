"""`vitreous demo`: a small Vision Transformer learns a shortcut and is finetuned out of it."""

from vitreous.demo.run import QUICK, TOKENCUT, Demo, DemoPlan

__all__ = ["QUICK", "TOKENCUT", "Demo", "DemoPlan"]
