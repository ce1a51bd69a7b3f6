"""Several attacks in turn, each on the images that withstood those before."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor, nn

from vitreous.attacks.base import (
    ATTACKS,
    Attack,
    AttackSettings,
    Goal,
    attack_mode,
    require_at_least,
)
from vitreous.attacks.findings import plain_findings, warn
from vitreous.attacks.randomness import of_rows
from vitreous.errors import VitreousError, nearest, require
from vitreous.ranges import STEPS, at_least

Member = Literal["fgsm", "pgd", "apgd_ce", "apgd_t", "square"]
AutoAttackMember = Literal["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
AUTOATTACK: tuple[str, ...] = get_args(AutoAttackMember)


@ATTACKS.register("sequence")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequence(AttackSettings):
    """An ensemble in AutoAttack's manner: APGD-CE, APGD-T and Square, without FAB.

    An image counts as fooled if any member fools it. For numbers to put beside RobustBench's
    use `autoattack`, which runs the ensemble's own code.

    Attributes:
        epsilon: Radius of the ball.
        norm: `linf` or `l2`.
        members: Attacks in order, with their own default settings.
        steps: Gradient steps of those that take such.
        restarts: Random starts of those that take such.
        queries: Queries of `square`.

    Examples:
        >>> model = torch.nn.Flatten().eval()  # its answer is the brightest of twelve values
        >>> images = torch.rand(2, 3, 2, 2)
        >>> attack = Sequence(epsilon=1.0, members=("apgd_ce", "square"), steps=3, queries=20)
        >>> perturbed = attack(model, images, model(images).argmax(1))
        >>> (model(perturbed).argmax(1) != model(images).argmax(1)).tolist()
        [True, True]
    """

    members: tuple[Member, ...] = ("apgd_ce", "apgd_t", "square")
    steps: Annotated[int, STEPS] = 100
    restarts: Annotated[int, at_least(1)] = 1
    queries: Annotated[int, at_least(1)] = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.attacks()

    def attacks(self) -> list[Attack]:
        """Build the members."""
        own = {"steps": self.steps, "restarts": self.restarts, "queries": self.queries}
        built = []
        for name in self.members:
            kind = ATTACKS[name]
            taken = inspect.signature(kind).parameters
            settings = {key: value for key, value in own.items() if key in taken}
            built.append(kind(epsilon=self.epsilon, norm=self.norm, **settings))
        return built

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for images that fool a model; see `Attack`."""
        goal, perturbed = Goal(labels, targets), images.clone()
        rows = torch.arange(len(images), device=images.device)
        for attack in self.attacks():
            part = goal[rows]
            source = of_rows(generator, rows)
            found = attack(model, images[rows], part.labels, targets=part.targets, generator=source)
            perturbed[rows] = found
            with attack_mode(model):
                rows = rows[~part.reached_by(model, found)]
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
        restarts: Random starts of each member; by default those of the version.
        seed: Of its random numbers; the generator's where one is given.

    Examples:
        >>> attack = AutoAttack(epsilon=8 / 255, version="custom", members=("square",))
        >>> attack.members, attack.at(4 / 255).epsilon * 255
        (('square',), 4.0)
    """

    version: Literal["standard", "plus", "rand", "custom"] = "standard"
    members: tuple[AutoAttackMember, ...] = ()
    restarts: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.version == "custom") != bool(self.members):
            raise ValueError("give members with version custom, and only with it")
        if unknown := [m for m in self.members if m not in AUTOATTACK]:
            raise ValueError(f"unknown member '{unknown[0]}'; {nearest(unknown[0], AUTOATTACK)}")
        if self.restarts is not None:
            require_at_least(1, restarts=self.restarts)

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Look for images that fool a model; see `Attack`.

        Raises:
            VitreousError: If `pyautoattack` is not installed, or the model has fewer classes than
                its targeted members need.
            ValueError: For targets, which AutoAttack has not.
        """
        if targets is not None:
            raise ValueError("autoattack is untargeted; use pgd or apgd_t for targets")
        warn(plain_findings(model, images))
        library = require("pyautoattack", "attacks")
        seed = self.seed if generator is None else generator.initial_seed() % 2**31
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
            self._restart(runner)
            _require_classes(runner, model, images)
            found = runner.run_standard_evaluation(images, labels, batch_size=len(images))
        found = found[0] if isinstance(found, tuple) else found
        return found.detach().to(images)

    def _restart(self, runner: Any) -> None:
        """Set the random starts of all members."""
        if self.restarts is not None:
            for member in (runner.apgd, runner.apgd_targeted, runner.fab, runner.square):
                member.n_restarts = self.restarts


@torch.no_grad()
def _require_classes(runner: Any, model: nn.Module, images: Tensor) -> None:
    """Refuse a model that has fewer classes than the targeted members drive towards."""
    classes = int(model(images[:1]).shape[1])
    targeted = {"apgd-t": runner.apgd_targeted, "fab-t": runner.fab}
    for name, member in targeted.items():
        needed = member.n_target_classes + 1
        if name in runner.attacks_to_run and classes < needed:
            raise VitreousError(
                f"{name} of autoattack needs {needed} classes, the model has {classes}; choose "
                "members without targets (--members apgd-ce square), or --attack sequence"
            )
