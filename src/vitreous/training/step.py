"""One training step: perturb, one forward pass, all objectives, one scalar."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vitreous.data.batch import Batch
from vitreous.models import Classifier
from vitreous.models.attention_inputs import inputs_pay
from vitreous.models.forward import record_forward
from vitreous.training.compiled import CompiledPass
from vitreous.training.objectives import LossTerm, Objective, Step


@dataclasses.dataclass(frozen=True)
class StepLoss:
    """What a forward pass came to.

    Attributes:
        plain: Weighted sum of the objectives that are means over rows.
        masked: Weighted sum of the objectives that are means over the rows that have a mask.
        sums: Weighted sum of the objectives that are sums over rows.
        figures: Detached scalars by name: `loss`, `accuracy`, each objective, its own figures.
        masked_figures: Names of the figures that are means over the rows that have a mask.
        masked_rows: How many of these rows there are.
    """

    plain: Tensor
    masked: Tensor
    sums: Tensor
    figures: dict[str, Tensor]
    masked_figures: frozenset[str]
    masked_rows: int

    @property
    def means(self) -> Tensor:
        """Weighted sum of the objectives that are means, of this pass alone."""
        return self.plain + self.masked

    def masked_weight(self, share: Share) -> float:
        """Factor of this pass's means over masked rows; sums to the number of processes."""
        return share.processes * (self.masked_rows if share.rows else 0) / max(share.all_masked, 1)

    def share_of_figures(self, share: Share) -> dict[str, Tensor]:
        """Figures whose sum over parts, averaged over processes, is that of the whole batch."""
        masked = self.masked_weight(share)
        return {
            key: value * (masked if key in self.masked_figures else share.weight)
            for key, value in self.figures.items()
        }

    def scaled(self, share: Share) -> Tensor:
        """The scalar whose gradients, averaged over processes and added over parts, are right."""
        sums = self.sums * (share.processes * float(share.rows > 0))
        return self.plain * share.weight + self.masked * self.masked_weight(share) + sums


@dataclasses.dataclass(frozen=True)
class Share:
    """What part of an optimiser step a forward pass is.

    Attributes:
        rows: Rows of this pass; 0 if it stands in for an empty one and must not count.
        all_rows: Rows of the optimiser step, over all parts and processes.
        all_masked: Those of them that have a mask.
        processes: Number of processes, over which gradients are averaged.
    """

    rows: int
    all_rows: int
    all_masked: int
    processes: int = 1

    @property
    def weight(self) -> float:
        """Factor of this pass's means; sums to the number of processes."""
        return self.rows * self.processes / self.all_rows

    @classmethod
    def whole(cls, batch: Batch) -> Share:
        """A pass that is the step."""
        return cls(len(batch), len(batch), int(batch.has_mask.sum()))


def compute_loss(
    model: nn.Module,
    classifier: Classifier,
    batch: Batch,
    objectives: Mapping[str, Objective],
    *,
    clean: Tensor | None = None,
    progress: float = 0.0,
    together: bool = False,
    memory: dict[str, Tensor] | None = None,
    group_sizes: Tensor | None = None,
    compiled: CompiledPass | None = None,
) -> StepLoss:
    """Make one forward pass and add up the objectives.

    Only what an objective needs is made: attention is recorded, or the images get a gradient.

    Args:
        model: The model that is trained, wrapped if need be.
        classifier: The same model unwrapped.
        batch: What goes in.
        objectives: Name → objective.
        clean: The images before the adversary, if there was one.
        progress: Share of the training that is done.
        together: Make the passes of a batch with masks also where no row has one, because other
            processes wait for them; it does not count.
        memory: What objectives remember from step to step; changed in place.
        group_sizes: (G,) images of each group in the training set.
        compiled: Makes the passes of a model that was compiled.
    """
    if together and not batch.has_mask.any():
        masked = torch.arange(len(batch), device=batch.has_mask.device) == 0
        batch = dataclasses.replace(batch, has_mask=masked)
        made = compute_loss(
            model,
            classifier,
            batch,
            objectives,
            clean=clean,
            progress=progress,
            memory=memory,
            group_sizes=group_sizes,
            compiled=compiled,
        )
        named = made.masked_figures - objectives.keys()
        kept = {name: value for name, value in made.figures.items() if name not in named}
        return dataclasses.replace(made, figures=kept, masked_rows=0)
    needs = frozenset().union(*(o.needs for o in objectives.values()))
    derived = "input_gradients" in needs
    recording = [o.needs for o in objectives.values() if "attention" in o.needs]
    if compiled is not None:
        forward = compiled(model, batch)
    else:
        forward = record_forward(
            model,
            batch.images.detach() if derived else batch.images,
            attention=bool(recording),
            inputs_suffice=_inputs_suffice(recording, classifier, batch.images),
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
        memory={} if memory is None else memory,
        group_sizes=group_sizes,
        passes=compiled,
    )
    return add_up(
        step, {name: objective(step) for name, objective in objectives.items()}, objectives
    )


def _inputs_suffice(recording: list[frozenset[str]], model: Classifier, images: Tensor) -> bool:
    """Whether all objectives that need attention take its inputs, and these are the cheaper."""
    takes = bool(recording) and all("attention_inputs" in needs for needs in recording)
    return takes and inputs_pay(model.net, images)


def add_up(
    step: Step, outcomes: Mapping[str, LossTerm], objectives: Mapping[str, Objective]
) -> StepLoss:
    """Weigh the outcomes and collect their figures.

    The sum depends on the logits even where no objective does, so that several processes agree
    on which weights have a gradient.
    """
    nothing = step.logits.new_zeros((), dtype=torch.float32)
    totals = {"mean": step.zero(), "masked_mean": nothing, "sum": nothing}
    figures: dict[str, Tensor] = {}
    masked: set[str] = set()
    if step.batch.targets is None and (step.batch.labels >= 0).all():
        correct = step.logits.detach().argmax(1) == step.batch.labels
        figures["accuracy"] = correct.float().mean()
    for name, outcome in outcomes.items():
        weighted = objectives[name].weight_at(step.progress) * outcome.loss.float()
        totals[outcome.reduction] = totals[outcome.reduction] + weighted
        share = len(step.batch) if outcome.reduction == "sum" else 1
        own = {name: outcome.loss.detach().float() / share}
        for key, value in outcome.log.items():
            if key != "accuracy":
                own[f"{name}/{key}"] = torch.as_tensor(value, dtype=torch.float32)
        figures |= own
        masked |= own.keys() if outcome.reduction == "masked_mean" else set()
    plain, of_masked, sums = totals.values()
    figures["loss"] = (plain + of_masked + sums).detach()
    count = int(step.batch.has_mask.sum())
    return StepLoss(plain, of_masked, sums, figures, frozenset(masked), count)
