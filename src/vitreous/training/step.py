"""One training step: perturb, one forward pass, all objectives, one scalar."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitreous.data.batch import Batch
from vitreous.models import Classifier
from vitreous.models.forward import record_forward
from vitreous.training.objectives import LossTerm, Objective, Step


@dataclasses.dataclass(frozen=True)
class StepLoss:
    """What a forward pass came to.

    Attributes:
        means: Weighted sum of the objectives that are means over rows.
        sums: Weighted sum of the objectives that are sums over rows.
        figures: Detached scalars by name: `loss`, `accuracy`, each objective, its own figures.
    """

    means: Tensor
    sums: Tensor
    figures: dict[str, Tensor]

    def scaled(self, rows: int, all_rows: int, processes: int) -> Tensor:
        """The scalar whose gradients, averaged over processes and added over parts, are right.

        Args:
            rows: Rows of this pass; 0 if it stands in for an empty one and must not count.
            all_rows: Rows of the optimiser step, over all parts and processes.
            processes: Number of processes, over which gradients are averaged.
        """
        counts = float(rows > 0)
        return self.means * (rows * processes / all_rows) + self.sums * (processes * counts)


def compute_loss(
    model: nn.Module,
    classifier: Classifier,
    batch: Batch,
    objectives: Mapping[str, Objective],
    *,
    clean: Tensor | None = None,
    progress: float = 0.0,
) -> StepLoss:
    """Make one forward pass and add up the objectives.

    Only what an objective needs is made: attention is recorded, or the images get a gradient.

    Args:
        model: The model that is trained, wrapped if need be.
        classifier: The same model unwrapped.
        batch: What goes in.
        objectives: Name → objective.
        clean: The pictures before the adversary, if there was one.
        progress: Share of the training that is done.
    """
    needs = frozenset().union(*(o.needs for o in objectives.values()))
    derived = "input_gradients" in needs
    recording = [o.needs for o in objectives.values() if "attention" in o.needs]
    forward = record_forward(
        model,
        batch.images.detach() if derived else batch.images,
        attention=bool(recording),
        inputs_suffice=all("attention_inputs" in needs for needs in recording),
        input_gradient=derived,
        classifier=classifier,
    )
    attacked = clean is not None and clean is not batch.images
    step = Step(
        model=model,
        classifier=classifier,
        batch=dataclasses.replace(batch, images=forward.images),
        clean=clean if clean is not None and attacked else forward.images,
        forward=forward,
        progress=progress,
    )
    return add_up(
        step, {name: objective(step) for name, objective in objectives.items()}, objectives
    )


def add_up(
    step: Step, outcomes: Mapping[str, LossTerm], objectives: Mapping[str, Objective]
) -> StepLoss:
    """Weigh the outcomes and collect their figures.

    The sum depends on the logits even where no objective does, so that several processes agree
    on which weights have a gradient.
    """
    totals = {"mean": step.zero(), "sum": step.logits.new_zeros((), dtype=torch.float32)}
    figures: dict[str, Tensor] = {}
    if (step.batch.labels >= 0).all():
        correct = step.logits.detach().argmax(1) == step.batch.labels
        figures["accuracy"] = correct.float().mean()
    for name, outcome in outcomes.items():
        weighted = objectives[name].weight_at(step.progress) * outcome.loss.float()
        totals[outcome.reduction] = totals[outcome.reduction] + weighted
        share = 1 if outcome.reduction == "mean" else len(step.batch)
        figures[name] = outcome.loss.detach().float() / share
        for key, value in outcome.log.items():
            if key != "accuracy":
                figures[f"{name}/{key}"] = torch.as_tensor(value, dtype=torch.float32)
    figures["loss"] = (totals["mean"] + totals["sum"]).detach()
    return StepLoss(totals["mean"], totals["sum"], figures)
