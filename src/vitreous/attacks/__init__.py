"""Attacks: frozen settings and a call that looks for pictures that fool a model."""
