"""Accuracy under attack over a whole dataset, at several radii."""

from __future__ import annotations

import copy
import dataclasses
import functools
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitreous.attacks.base import ATTACKS, Attack, Goal
from vitreous.attacks.checks import SHAKEN, Finding, observe
from vitreous.attacks.norms import Norm, norms
from vitreous.attacks.randomness import RowGenerators
from vitreous.config import plain
from vitreous.data.dataset import Dataset
from vitreous.errors import VitreousError
from vitreous.evaluation.loading import EvaluationBatch, View, batches
from vitreous.evaluation.rows import item_type
from vitreous.evaluation.stream import StreamSettings, stream
from vitreous.models import Classifier
from vitreous.models.heads import require_head
from vitreous.precision import unrounded
from vitreous.processes import ALONE, Processes
from vitreous.results import Record, accuracy_record

ROBUST = -1
TOLERANCE = 1e-5
CHECKED = 32

Keep = Callable[[int, Tensor, Tensor, float], None]


class Robustness:
    """The least of growing radii at which an attack fools a classifier, for each image.

    An image that a smaller ball fools is fooled by a larger one, which contains it, and is not
    attacked again. Random numbers follow from the seed and each image's name, so that a resumed
    or shared evaluation gives what an uninterrupted one gives. (`autoattack` alone draws for a
    batch as a whole, from the seed.)

    Args:
        dataset: How records call what is attacked.
        attack: Settings; its radius is replaced by each of `epsilons`.
        epsilons: Radii, in units of the images.
        target: Class that counts as fooled; by default any wrong one. Images of that class
            count as wrong before the attack.
        seed: Of all random choices.
        keep: Called with (index, image, perturbed, ε) for each image that is fooled.

    Raises:
        VitreousError: If no radius is above 0.
    """

    def __init__(
        self,
        dataset: str,
        attack: Attack,
        epsilons: Sequence[float],
        *,
        target: int | None = None,
        seed: int = 0,
        keep: Keep | None = None,
    ):
        self.dataset, self.attack, self.target, self.seed = dataset, attack, target, seed
        self.epsilons = tuple(sorted({float(e) for e in epsilons if e > 0}))
        self.keep = keep
        if not self.epsilons:
            raise VitreousError("expected at least one epsilon above 0")

    def for_classes(self, count: int) -> Robustness:
        """The same, with the attack as it is for a model of `count` classes."""
        made = copy.copy(self)
        made.attack = self.attack.for_classes(count)
        return made

    @property
    def name(self) -> str:
        """The dataset and the attack."""
        return f"{self.dataset}-{ATTACKS.name_of(self.attack)}"

    def settings(self) -> dict[str, object]:
        """Attack, radii, target and seed."""
        return {
            "attack": ATTACKS.name_of(self.attack),
            **self.described(),
            "epsilons": self.epsilons,
            "seed": self.seed,
        }

    def described(self) -> dict[str, object]:
        """Settings of the attack without the radius, as records have them."""
        # The seed of every random choice is this evaluator's, which the records' provenance has.
        unsaid = {"epsilon", "seed"}
        given = {k: v for k, v in plain(self.attack).items() if k not in unsaid and v is not None}
        return {**given, **({} if self.target is None else {"target": self.target})}

    def row_type(self) -> np.dtype:
        """Field `outcome`: 0 wrong before, k fooled at the k-th radius, -1 withstood all."""
        return item_type([("outcome", "i2")])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Attack what is classified right, at growing radii.

        The search is made in whichever type the loop has; what is right is said in float32.
        """
        rows = self.unread(len(batch))
        images, labels = batch.images, batch.labels.to(batch.images.device)
        aims = None if self.target is None else torch.full_like(labels, self.target)
        goal, source = Goal(labels, aims), RowGenerators.of_seeds(self.seed, batch.seeds.tolist())
        logits = _logits(classifier, images)
        right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
        if self.target is not None:
            right &= labels != self.target
        outcomes = torch.where(right, ROBUST, 0)
        for number, epsilon in enumerate(self.epsilons, 1):
            left = (outcomes == ROBUST).nonzero()[:, 0]
            if len(left) == 0:
                break
            perturbed = self._attack(classifier, images[left], goal[left], epsilon, source[left])
            fooled = goal[left].reached_by(classifier, perturbed)
            outcomes[left[fooled]] = number
            if self.keep is not None:
                for place in fooled.nonzero()[:, 0].tolist():
                    row = int(left[place])
                    self.keep(int(batch.indices[row]), images[row], perturbed[place], epsilon)
        rows["outcome"] = outcomes.cpu().numpy()
        return rows

    def unread(self, count: int) -> np.ndarray:
        """Rows that count as wrong before the attack."""
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        """Records of suite `attack`, one for each radius and one (ε = 0) before."""
        name, settings = ATTACKS.name_of(self.attack), self.described()
        return [
            accuracy_record(
                "attack",
                self.dataset,
                "robust_accuracy",
                self.robust(rows, epsilon),
                len(rows),
                attack=name,
                epsilon=epsilon,
                **settings,
            )
            for epsilon in (0.0, *self.epsilons)
        ]

    def robust(self, rows: np.ndarray, epsilon: float) -> int:
        """How many images are still right at a radius (0: before the attack)."""
        limit = 0 if epsilon == 0 else self.epsilons.index(epsilon) + 1
        return int(((rows["outcome"] == ROBUST) | (rows["outcome"] > limit)).sum())

    def _attack(
        self,
        classifier: Classifier,
        images: Tensor,
        goal: Goal,
        epsilon: float,
        source: RowGenerators,
    ) -> Tensor:
        sized = self.attack.at(epsilon)
        perturbed = sized(classifier, images, goal.labels, targets=goal.targets, generator=source)
        _require_allowed(images, perturbed, sized)
        return perturbed


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack did to a dataset.

    Attributes:
        evaluator: What was measured.
        rows: See `Robustness.row_type`.
        findings: What may make the attack look weaker than it is.
        reasons: Why images could not be read: index → reason.
    """

    evaluator: Robustness
    rows: np.ndarray
    findings: tuple[Finding, ...] = ()
    reasons: dict[int, str] = dataclasses.field(default_factory=dict)

    @property
    def attack(self) -> str:
        """Name of the attack."""
        return ATTACKS.name_of(self.evaluator.attack)

    def curve(self) -> list[tuple[float, float]]:
        """Radius and accuracy, from 0 on."""
        total, evaluator = max(1, len(self.rows)), self.evaluator
        return [(e, evaluator.robust(self.rows, e) / total) for e in (0.0, *evaluator.epsilons)]

    def warnings(self) -> list[str]:
        """What a reader of the records has to know: findings, and images that could not be read."""
        told = [finding.message for finding in self.findings]
        if self.reasons:
            first = next(iter(self.reasons.values()))
            count = len(self.reasons)
            told.append(f"{count} images could not be read and count as wrong, the first: {first}")
        return told

    def records(self) -> list[Record]:
        """Records of suite `attack`, each with the warnings of this attack."""
        told = tuple(self.warnings())
        return [dataclasses.replace(r, warnings=told) for r in self.evaluator.records(self.rows)]


def robustness_curves(
    records: Sequence[Record], norm: Norm | str
) -> dict[str, list[tuple[float, float]]]:
    """Points (ε, accuracy) of records of attacks in one norm, by attack and what tells it apart."""
    own = [r for r in records if r.settings.get("norm") == norm and "epsilon" in r.settings]
    attacks = [{k: v for k, v in r.settings.items() if k != "epsilon"} for r in own]
    differ = {k for a in attacks for k in a if any(a[k] != b.get(k) for b in attacks)} - {"attack"}
    curves: dict[str, list[tuple[float, float]]] = {}
    for record, attack in zip(own, attacks):
        told = ", ".join(f"{k} {v}" for k, v in attack.items() if k in differ)
        same = sum(a["attack"] == attack["attack"] and a != attack for a in attacks)
        name = f"{attack['attack']} ({told})" if same else str(attack["attack"])
        curves.setdefault(name, []).append((float(record.settings["epsilon"]), record.value))
    return {name: sorted(points) for name, points in curves.items()}


def robustness(
    classifier: Classifier,
    dataset: Dataset,
    evaluator: Robustness,
    folder: str | os.PathLike[str],
    *,
    view: View | None = None,
    streaming: StreamSettings | None = None,
    processes: Processes = ALONE,
) -> Attacked:
    """Attack a dataset through the measuring loop, and look for what makes attacks misleading.

    Args:
        classifier: The model.
        dataset: What to attack; labels are the model's classes.
        evaluator: Attack, radii, target, seed.
        folder: Rows are kept in a folder in it.
        view: How images become inputs; the model's own by default.
        streaming: Batch size, workers, limit, restart.
        processes: Which of several processes this is.

    Raises:
        VitreousError: If there is no image, or the attack left the ball.
    """
    streaming = streaming or StreamSettings(batch_size=32)
    view = view or View(streaming.preprocessing or classifier.preprocessing)
    if not len(dataset):
        raise VitreousError("expected at least one image to attack")
    require_head(classifier)
    evaluator = evaluator.for_classes(classifier.num_classes)
    findings = _check(classifier, dataset, view, streaming, processes)
    measured = stream(
        classifier,
        dataset,
        evaluator,
        Path(folder),
        view=view,
        streaming=streaming,
        processes=processes,
    )
    return Attacked(evaluator, measured.rows, tuple(findings), measured.reasons)


def _check(
    classifier: Classifier,
    dataset: Dataset,
    view: View,
    streaming: StreamSettings,
    processes: Processes,
) -> list[Finding]:
    """Check the first images that can be read; each process looks at a share of them."""
    own = streaming.indices(dataset)[processes.rank :: processes.count]
    size = -(-min(CHECKED, streaming.batch_size) // processes.count)
    seen = []
    for batch in batches(dataset, view, own, batch_size=size):
        if len(batch):
            ready = batch.on(classifier.device)
            labels = ready.labels.to(classifier.device)
            some, seeds = -(-SHAKEN // processes.count), batch.seeds.tolist()
            seen = [observe(classifier, ready.images, labels, attacked=some, seeds=seeds)]
            break
    every = processes.gather(seen)
    return functools.reduce(operator.add, every).findings() if every else []


@torch.no_grad()
def _logits(classifier: Classifier, images: Tensor) -> Tensor:
    with unrounded(classifier.device):
        return classifier(images).float()


def _require_allowed(clean: Tensor, perturbed: Tensor, attack: Attack) -> None:
    """Count no image outside the ball or outside [0, 1]."""
    size = float(norms(perturbed - clean, attack.norm).max())
    low, high = float(perturbed.min()), float(perturbed.max())
    if size > attack.epsilon * (1 + TOLERANCE) + TOLERANCE or low < 0 or high > 1:
        raise VitreousError(
            f"{ATTACKS.name_of(attack)} returned images in [{low:.4g}, {high:.4g}] at distance "
            f"{size:.6g} of at most {attack.epsilon:.6g}; its result is not counted"
        )
