"""Attacks: frozen settings and a call that looks for images that fool a model.

attack = PGD(epsilon=2 / 255, steps=50, restarts=10)
perturbed = attack(classifier, images, labels)
"""

from vitreous.attacks.apgd import APGD, TargetedAPGD
from vitreous.attacks.base import ATTACKS, Attack
from vitreous.attacks.pgd import FGSM, PGD
from vitreous.attacks.sequence import AutoAttack, Sequence
from vitreous.attacks.square import Square

__all__ = [
    "APGD",
    "ATTACKS",
    "FGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "Sequence",
    "Square",
    "TargetedAPGD",
]
