"""Several attacks in turn, each on the pictures that withstood those before."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from vitreous.attacks.apgd import APGD, TargetedAPGD
from vitreous.attacks.base import ATTACKS, AttackSettings, BoundedAttack, Goal, attack_mode
from vitreous.attacks.norms import Norm
from vitreous.attacks.pgd import FGSM, PGD
from vitreous.attacks.square import Square
from vitreous.errors import VitreousError, require

TARGETED_CLASSES = 9  # how many wrong classes AutoAttack's targeted members try
Member = Literal["fgsm", "pgd", "apgd_ce", "apgd_t", "square"]


class Ball(TypedDict):
    """The settings that all members share."""

    epsilon: float
    norm: Norm


@ATTACKS.register("sequence")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence(AttackSettings):
    """An ensemble in AutoAttack's manner: APGD-CE, APGD-T and Square, without FAB.

    An image counts as fooled if any member fools it. For numbers to put beside RobustBench's
    use `autoattack`, which runs the ensemble's own code.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        members: Attacks in order, otherwise with their own default settings.
        steps: Gradient steps of those that take such.
        restarts: Random starts of those that take such.
        queries: Queries of `square`.
    """

    members: tuple[Member, ...] = ("apgd_ce", "apgd_t", "square")
    steps: int = 100
    restarts: int = 1
    queries: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.attacks()

    def attacks(self) -> list[BoundedAttack]:
        """Build the members."""
        return [self._attack(name) for name in self.members]

    def _attack(self, name: Member) -> BoundedAttack:
        ball: Ball = {"epsilon": self.epsilon, "norm": self.norm}
        match name:
            case "fgsm":
                return FGSM(**ball)
            case "pgd":
                return PGD(**ball, steps=self.steps, restarts=self.restarts)
            case "apgd_ce":
                return APGD(**ball, steps=self.steps, restarts=self.restarts)
            case "apgd_t":
                return TargetedAPGD(**ball, steps=self.steps, restarts=self.restarts)
            case "square":
                return Square(**ball, queries=self.queries)

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for pictures that fool a model; see `Attack`."""
        goal, perturbed = Goal(labels, targets), images.clone()
        rows = torch.arange(len(images), device=images.device)
        for attack in self.attacks():
            part = goal[rows]
            perturbed[rows] = attack(
                model, images[rows], part.labels, targets=part.targets, generator=generator
            )
            with attack_mode(model), torch.no_grad():
                rows = rows[~part.reached(model(perturbed[rows]).float())]
            if len(rows) == 0:
                break
        return perturbed


@ATTACKS.register("autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoAttack(AttackSettings):
    """AutoAttack itself (Croce and Hein 2020), run by the package `pyautoattack`.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        version: `standard` (APGD-CE, APGD-T, FAB-T, Square), `plus`, `rand`, or `custom`.
        members: The attacks of a custom version, by AutoAttack's names.
        seed: Of its random numbers; drawn from the generator if it is given one.
    """

    version: Literal["standard", "plus", "rand", "custom"] = "standard"
    members: tuple[str, ...] = ()
    seed: int = 0

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for pictures that fool a model; see `Attack`.

        Raises:
            VitreousError: If `pyautoattack` is not installed, or the model has fewer classes than
                its targeted members try.
            ValueError: For targets, which AutoAttack has not.
        """
        if targets is not None:
            raise ValueError("autoattack is untargeted; use pgd or apgd_t for targets")
        library = require("pyautoattack", "attacks")
        seed = self.seed
        if generator is not None:
            seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        with (
            attack_mode(model),
            torch.random.fork_rng(devices=[images.device.index or 0] * images.is_cuda),
        ):
            runner = library.AutoAttack(
                model,
                eps=self.epsilon,
                norm={"linf": "Linf", "l2": "L2"}[self.norm],
                seed=seed,
                device=images.device,
                version=self.version,
                attacks=list(self.members) or None,
            )
            with torch.no_grad():
                _require_classes(runner.attacks_to_run, model(images[:1]).shape[1])
            found = runner.run_standard_evaluation(images, labels, batch_size=len(images))
        found = found[0] if isinstance(found, tuple) else found
        return found.detach().to(images)


def _require_classes(members: Collection[str], classes: int) -> None:
    """Refuse models whose classes are fewer than AutoAttack's targeted members try in turn."""
    targeted = [name for name in members if name.endswith("-t")]
    if targeted and classes <= TARGETED_CLASSES:
        raise VitreousError(
            f"autoattack's {', '.join(targeted)} needs more than {TARGETED_CLASSES} classes, the "
            f"model has {classes}; use attack sequence, which takes as many as there are, or "
            "version custom with members apgd-ce and square"
        )
