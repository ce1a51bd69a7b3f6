"""The passes of a training step as graphs: recorded attention under `torch.compile`.

A map is made from the gradients of attention, so its graph holds a backward pass to the maps too:
what torch compiled can be derived once, so whatever is derived before the loss is derived within
the graph. The adversary's graph holds the backward pass to the images. Batches that are smaller
than the first one are filled up with rows that do not count, so that no later step makes another
graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, MutableMapping, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitreous.attribution import METHODS, min_max, recorded_pass
from vitreous.data.batch import Batch
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.models.attention import AttentionTrace, recording
from vitreous.models.families import layout_of
from vitreous.models.forward import ForwardPass, make_recording_hook
from vitreous.models.gradients import is_half_precision, scaled_gradients, scaled_up
from vitreous.models.layout import Layout
from vitreous.training.adversaries.gradient import BatchLoss
from vitreous.training.graphs import Compilation, Graph, can_trace_gradients, uncompiled
from vitreous.training.objectives.base import GradientWanted, MapsWanted

T = TypeVar("T")
PREDICTION = -1
"""In the place of a class: the one that the model predicts."""


class StepPass(nn.Module):
    """Logits of images, and what is derived from them, in one call.

    Args:
        classifier: The model; what is trained of it is trained.
        wanted: Which maps; none where not given.
        gradients: Which gradients for the images.
    """

    def __init__(
        self,
        classifier: Classifier,
        wanted: MapsWanted | None = None,
        gradients: Sequence[GradientWanted] = (),
    ):
        super().__init__()
        self.gradients = tuple(gradients)
        self.classifier, self.wanted = classifier, wanted
        self.method = None if wanted is None else METHODS[wanted.method]
        self.trace = AttentionTrace()
        self.size = (0, 0)
        self.layout: Layout | None = None

    def fit(self, size: tuple[int, int]) -> None:
        """Know how tokens mix in images (height, width); another size makes another graph."""
        if size != self.size:
            self.size, self.layout = size, layout_of(self.classifier.net, size)

    def forward(
        self, images: Tensor, classes: Tensor, labels: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Make the pass.

        Args:
            images: (B, 3, H, W) in [0, 1].
            classes: (B,) whose maps are made, `PREDICTION` for what the model predicts.
            labels: (B,) that scores are of.

        Returns:
            Logits (B, C); maps (B, 1, H, W) in [0, 1], and which (B,) were constant, if there
            are to be maps; gradients (B, 3, H, W).
        """
        self.trace.clear()
        logits = self.classifier(images)
        maps = self._maps(images, logits, classes)
        gradients = tuple(
            self._gradient(wanted, images, logits, labels) for wanted in self.gradients
        )
        self.trace.clear()
        return logits, maps, gradients

    def _maps(self, images: Tensor, logits: Tensor, classes: Tensor) -> tuple[Tensor, ...]:
        if self.wanted is None or self.method is None:
            return ()
        chosen = torch.where(classes < 0, logits.detach().argmax(1), classes)
        made = ForwardPass(images, logits, self.trace)
        start, twice = self.wanted.start_layer, self.wanted.second_order
        recorded = recorded_pass(made, chosen, self.layout, start, twice)
        return min_max(self.method(recorded))

    @staticmethod
    def _gradient(wanted: GradientWanted, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        score, twice = wanted.score(logits.float(), labels), wanted.second_order
        (gradient,) = scaled_gradients(score, [images], create_graph=twice, retain_graph=True)
        return gradient


class ImageGradient(nn.Module):
    """The gradient of an adversary's loss with respect to a perturbation, and to nothing else.

    Args:
        classifier: The model.
        kind: Of a `BatchLoss`.
    """

    def __init__(self, classifier: Classifier, kind: str):
        super().__init__()
        self.classifier, self.kind = classifier, kind

    def forward(
        self, images: Tensor, perturbation: Tensor, against: Tensor, scale: Tensor
    ) -> Tensor:
        """Derive the loss of the images (B, 3, H, W), perturbed.

        Args:
            images: (B, 3, H, W) in [0, 1].
            perturbation: (B, 3, H, W); requires a gradient.
            against: Of the `BatchLoss`.
            scale: () factor of the loss.
        """
        logits = self.classifier(F.hardtanh(images + perturbation, 0, 1)).float()
        loss = BatchLoss(self.kind, against).of_rows(logits).sum() * scale
        (gradient,) = torch.autograd.grad(loss, [perturbation])
        return gradient


class CompiledPass:
    """Makes the passes of training steps by compiled graphs.

    These are, each made when it is first needed, which is the first step: `step`, the pass of
    what the step is of, with the relevance maps and the gradients for the images that its
    objectives ask for, which makes the passes of turned and of clean images too; `adversary`, the
    gradient for the images; `logits`, further passes that derive nothing, where the first does;
    `some rows`, those of a part of the batch.

    Args:
        classifier: The model.
        wanted: Which maps the objectives ask for; none where not given.
        log: Of the run.
        gradients: Which gradients for the images they ask for.

    Attributes:
        module: What is to be prepared for the devices and processes; `prepared` is what came of
            it.
        rows: Rows of the graph: at least those of the first batch.

    Raises:
        VitreousError: If this torch cannot trace a backward pass within a graph.
    """

    def __init__(
        self,
        classifier: Classifier,
        wanted: MapsWanted | None,
        log: Compilation | None = None,
        gradients: Sequence[GradientWanted] = (),
    ):
        derives = wanted is not None or bool(gradients)
        if derives and not can_trace_gradients():
            raise VitreousError(
                "training.compile with objectives of attention or input gradients needs a newer "
                f"torch than {torch.__version__}: one that traces torch.autograd.grad"
            )
        self.classifier, self.log = classifier, log or Compilation()
        self.inner = StepPass(classifier, wanted, gradients) if derives else None
        module = classifier if self.inner is None else self.inner
        self.step = Graph("step", module, self.log, whole=derives, required=derives)
        self.module = self.step.module
        self.further = Graph("logits", classifier, self.log)
        self.part = Graph("some rows", classifier, self.log, rows_vary=True)
        self.gradients: dict[str, Graph] = {}
        self.rows = 0
        self.fills = not any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in classifier.modules()
        )

    def __call__(self, prepared: nn.Module, batch: Batch) -> ForwardPass:
        """Make the pass of a batch.

        Args:
            prepared: `module`, wrapped for several processes if need be.
            batch: What goes in, at most as many rows as the first time.
        """
        return self._step(prepared, batch, batch.images)

    def again(self, batch: Batch, images: Tensor, classes: Tensor | None = None) -> ForwardPass:
        """Make the pass of other images of the same rows, by the same graph.

        Args:
            batch: What the step is of.
            images: (B, 3, H, W) in [0, 1].
            classes: (B,) whose maps are made, where these are not those that the objectives ask
                for of the batch.
        """
        return self._step(self.module, batch, images, classes)

    def logits(self, images: Tensor, *, rows_vary: bool = False) -> Tensor:
        """Logits (B, C) of further images (B, 3, H, W), in place of a pass of the classifier.

        Args:
            images: In [0, 1].
            rows_vary: There is another number of rows in each step.
        """
        if rows_vary:
            filled = images if len(images) > 1 else images.expand(2, *images.shape[1:]).clone()
            torch._dynamo.mark_dynamic(filled, 0)
            return self.part(lambda: self.part.module(filled))[: len(images)]
        graph = self.step if self.inner is None else self.further
        return self._filled(graph, graph.module, images)[: len(images)]

    def image_gradient(
        self,
        images: Tensor,
        perturbation: Tensor,
        loss: BatchLoss,
        state: MutableMapping[str, Tensor],
    ) -> Tensor:
        """Gradient (B, 3, H, W) of an adversary's loss with respect to the perturbation.

        Args:
            images: (B, 3, H, W) in [0, 1].
            perturbation: (B, 3, H, W).
            loss: What it makes large.
            state: Holds the loss scale in fp16; changed in place.
        """
        graph, rows = self._adversary(loss.kind), len(images)
        inputs = images, perturbation.detach(), loss.against

        def derive(scale: Tensor) -> list[Tensor | None]:
            factor = scale.to(images.device, torch.float32) / rows

            def call(images: Tensor, moved: Tensor, against: Tensor) -> Tensor:
                return graph.module(images, moved.detach().requires_grad_(), against, factor)

            return [self._filled(graph, call, *inputs)[:rows]]

        half = is_half_precision(images)
        made = scaled_up(derive, state, images.device) if half else derive(torch.tensor(1.0))
        return cast(Tensor, made[0])

    def _adversary(self, kind: str) -> Graph:
        if kind not in self.gradients:
            module = ImageGradient(self.classifier, kind)
            self.gradients[kind] = Graph("adversary", module, self.log)
        return self.gradients[kind]

    def _step(
        self, prepared: nn.Module, batch: Batch, images: Tensor, classes: Tensor | None = None
    ) -> ForwardPass:
        rows, inner = len(images), self.inner
        if inner is None:
            return ForwardPass(images, self._filled(self.step, prepared, images)[:rows])

        def call(
            images: Tensor, classes: Tensor, labels: Tensor
        ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
            seen = images.detach().requires_grad_() if inner.gradients else images
            return prepared(seen, classes.clone(), labels)  # a graph of two tensors is not of one

        inputs = images, self._classes(batch) if classes is None else classes, batch.labels
        with self._recorded(inner, images):
            logits, maps, gradients = self._filled(self.step, call, *inputs)
        derived: dict[object, Tensor] = {
            wanted: made[:rows] for wanted, made in zip(inner.gradients, gradients)
        }
        told = (maps[0][:rows], maps[1][:rows]) if maps else None
        return ForwardPass(images, logits[:rows], maps=told, derived=derived)

    @contextlib.contextmanager
    def _recorded(self, inner: StepPass, images: Tensor) -> Generator[None]:
        """Record attention, or let images be derived by the kernel that can be derived twice."""
        with contextlib.ExitStack() as stack:
            if inner.wanted is not None:
                inner.fit((images.shape[-2], images.shape[-1]))
                make_hook = make_recording_hook(inner.trace, inner.classifier)
                stack.enter_context(recording(inner.classifier, make_hook))
            if inner.gradients:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def _filled(self, graph: Graph, call: Callable[..., T], *inputs: Tensor) -> T:
        """Call a graph with as many rows as it was made for.

        Batch statistics are of all rows, those that do not count too: such a network's smaller
        batch makes its pass without the graph.
        """
        rows, device = len(inputs[0]), inputs[0].device
        self.rows = max(self.rows, rows)
        if rows == self.rows:
            return graph(lambda: call(*inputs))
        if not self.fills:
            return uncompiled(lambda: call(*inputs))
        filled = torch.arange(self.rows, device=device) % rows
        return graph(lambda: call(*(x[filled] for x in inputs)))

    def _classes(self, batch: Batch) -> Tensor:
        wanted = None if self.inner is None else self.inner.wanted
        if wanted is not None and wanted.target == "prediction":
            return torch.full_like(batch.labels, PREDICTION)
        return batch.labels
