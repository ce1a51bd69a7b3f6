"""Accuracy under attack over a whole set: streaming, several ε in one run, resumable."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from vitreous.attacks.base import ATTACKS, Attack, Goal
from vitreous.attacks.checks import Finding, check
from vitreous.attacks.norms import norms
from vitreous.config import plain
from vitreous.errors import VitreousError
from vitreous.io import read_json, write_json
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode
from vitreous.results import Record, accuracy_record

ROBUST = -1
TOLERANCE = 1e-5


class Images(Protocol):
    """A sequence of pictures (3, H, W) in [0, 1] with their labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...


@dataclasses.dataclass(frozen=True)
class Robustness:
    """What an attack did to each picture.

    Attributes:
        attack: The attack's name.
        settings: Its settings, without the radius.
        epsilons: The radii, growing.
        outcomes: For each picture: 0 it was wrong before, k the k-th radius was the first to fool
            the model, -1 it withstood all.
        findings: What the checks found.
    """

    attack: str
    settings: dict[str, Any]
    epsilons: tuple[float, ...]
    outcomes: tuple[int, ...]
    findings: tuple[Finding, ...] = ()

    def robust(self, epsilon: float) -> int:
        """How many pictures are still right at a radius (0: before the attack)."""
        limit = 0 if epsilon == 0 else self.epsilons.index(epsilon) + 1
        return sum(outcome == ROBUST or outcome > limit for outcome in self.outcomes)

    def curve(self) -> list[tuple[float, float]]:
        """Radius and accuracy, from 0 on."""
        total = max(1, len(self.outcomes))
        return [(e, self.robust(e) / total) for e in (0.0, *self.epsilons)]

    def records(self, dataset: str) -> list[Record]:
        """Records of suite `attack`, one for each radius and one (ε = 0) before."""
        return [
            accuracy_record(
                "attack",
                dataset,
                "robust_accuracy",
                self.robust(epsilon),
                len(self.outcomes),
                attack=self.attack,
                epsilon=epsilon,
                **self.settings,
            )
            for epsilon in (0.0, *self.epsilons)
        ]


def robustness(
    classifier: Classifier,
    dataset: Images,
    attack: Attack,
    epsilons: Sequence[float],
    *,
    target: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    state: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    keep: Callable[[int, Tensor, Tensor, float], None] | None = None,
) -> Robustness:
    """Attack every picture that is classified right, at growing radii.

    A picture that a smaller ball fools is fooled by a larger one, which contains it, and is not
    attacked again. Only one batch is in memory. Random numbers depend on the seed and the place
    of the batch, so a killed run that goes on gives what an uninterrupted one gives.

    Args:
        classifier: The model.
        dataset: What to attack.
        attack: Settings; its radius is replaced by each of `epsilons`.
        epsilons: Radii, in units of the pictures.
        target: Class that counts as fooled; by default any wrong one. Pictures of that class
            count as wrong before the attack.
        batch_size: Pictures attacked at once.
        seed: Of all random choices.
        state: File that holds the progress; a run with the same settings goes on from it.
        quiet: No progress bar.
        keep: Called with (index, picture, perturbed, ε) for each picture that is fooled.

    Raises:
        VitreousError: If the state belongs to another evaluation, or there is no picture.
    """
    radii = tuple(sorted({float(e) for e in epsilons if e > 0}))
    if not radii or not len(dataset):
        raise VitreousError("expected at least one epsilon above 0 and one picture to attack")
    name, settings = describe(attack)
    settings = {**settings, **({} if target is None else {"target": target})}
    key = {
        "attack": name,
        "settings": settings,
        "epsilons": list(radii),
        "pictures": len(dataset),
        "batch_size": batch_size,
        "seed": seed,
        "model": fingerprint(classifier),
    }
    outcomes, findings = _resume(state, key)
    with tqdm(
        total=len(dataset), initial=len(outcomes), desc=name, disable=True if quiet else None
    ) as bar:
        while len(outcomes) < len(dataset):
            start = len(outcomes)
            images, labels = _read(dataset, start, batch_size, classifier.device)
            if start == 0:
                findings = check(classifier, images, labels)
            generator = torch.Generator().manual_seed((seed << 32) + start)
            kept = _numbered(keep, start)
            outcomes += _attack_batch(
                classifier, images, labels, attack, radii, target, generator, kept
            )
            if state is not None:
                rows = [dataclasses.asdict(f) for f in findings]
                write_json(state, {"key": key, "outcomes": outcomes, "findings": rows})
            bar.update(len(images))
            right = sum(o == ROBUST for o in outcomes) / len(outcomes)
            bar.set_postfix({f"right at {radii[-1]:.4f}": f"{right:.1%}"})
    return Robustness(name, settings, radii, tuple(outcomes), tuple(findings))


def describe(attack: Attack) -> tuple[str, dict[str, Any]]:
    """Name of an attack and its settings without the radius, as plain values."""
    settings = {k: v for k, v in plain(attack).items() if k != "epsilon" and v is not None}
    return ATTACKS.name_of(attack), settings


def fingerprint(classifier: Classifier) -> str:
    """Tell models apart: name, and the sum of the absolute weights."""
    total = sum(float(p.detach().double().abs().sum()) for p in classifier.parameters())
    return f"{classifier.name} {total:.9g}"


def _numbered(
    keep: Callable[[int, Tensor, Tensor, float], None] | None, start: int
) -> Callable[[int, Tensor, Tensor, float], None]:
    def call(row: int, image: Tensor, perturbed: Tensor, epsilon: float) -> None:
        if keep is not None:
            keep(start + row, image, perturbed, epsilon)

    return call


def _resume(
    state: str | os.PathLike[str] | None, key: dict[str, Any]
) -> tuple[list[int], list[Finding]]:
    if state is None or not Path(state).is_file():
        return [], []
    stored = read_json(state)
    old = stored.get("key", {}) if isinstance(stored, dict) else {}
    different = [name for name in key if old.get(name) != key[name]]
    if different:
        name = different[0]
        raise VitreousError(
            f"{state} holds another evaluation ({name}: {old.get(name)}, now {key[name]}); remove "
            "it, or give another folder with --out"
        )
    return list(stored["outcomes"]), [Finding(**row) for row in stored["findings"]]


def _read(
    dataset: Images, start: int, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    rows = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
    images = torch.stack([image for image, _ in rows])
    return images.to(device), torch.tensor([label for _, label in rows], device=device)


def _attack_batch(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    radii: tuple[float, ...],
    target: int | None,
    generator: torch.Generator,
    keep: Callable[[int, Tensor, Tensor, float], None],
) -> list[int]:
    """Outcome of each picture of a batch."""
    aims = None if target is None else torch.full_like(labels, target)
    goal = Goal(labels, aims)
    right = _logits(classifier, images).argmax(1) == labels
    if target is not None:
        right &= labels != target
    outcomes = torch.where(right, ROBUST, 0)
    for number, epsilon in enumerate(radii, 1):
        rows = (outcomes == ROBUST).nonzero()[:, 0]
        if len(rows) == 0:
            break
        part, clean = goal[rows], images[rows]
        sized = attack.at(epsilon)
        found = sized(classifier, clean, part.labels, targets=part.targets, generator=generator)
        _require_allowed(clean, found, sized)
        fooled = part.reached(_logits(classifier, found))
        outcomes[rows[fooled]] = number
        for place in fooled.nonzero()[:, 0].tolist():
            keep(int(rows[place]), clean[place], found[place], epsilon)
    return outcomes.tolist()


@torch.no_grad()
def _logits(classifier: Classifier, images: Tensor) -> Tensor:
    with evaluation_mode(classifier):
        return classifier(images).float()


def _require_allowed(clean: Tensor, found: Tensor, attack: Attack) -> None:
    """Count no picture outside the ball or outside [0, 1]."""
    size = float(norms(found - clean, attack.norm).max())
    low, high = float(found.min()), float(found.max())
    if size > attack.epsilon * (1 + TOLERANCE) + TOLERANCE or low < 0 or high > 1:
        raise VitreousError(
            f"{ATTACKS.name_of(attack)} returned pictures in [{low:.4g}, {high:.4g}] at distance "
            f"{size:.6g} of at most {attack.epsilon:.6g}; its result is not counted"
        )
