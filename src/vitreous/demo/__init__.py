"""`vitreous demo`: a small Vision Transformer learns a shortcut and is finetuned out of it."""

from vitreous.demo.story import QUICK, TOKENCUT, Plan, Story

__all__ = ["QUICK", "TOKENCUT", "Plan", "Story"]
