"""One graph of a pass and its relevance maps: recorded attention under `torch.compile`.

A map is made from the gradients of attention, so the graph holds a backward pass to the maps too;
the gradients are constants, as in the paper, and the graph is derived once. It is made at the first
step. Batches that are smaller than the first one are filled up with rows that do not count, so that
no later step makes another graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitreous.attribution import METHODS, min_max, recorded_pass
from vitreous.data.batch import Batch
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.models.attention import AttentionTrace, recording
from vitreous.models.families import layout_of
from vitreous.models.forward import ForwardPass, make_recording_hook
from vitreous.models.layout import Layout
from vitreous.training.objectives.base import MapsWanted

PREDICTION = -1
"""In the place of a class: the one that the model predicts."""


class RelevancePass(nn.Module):
    """Logits of images, and their relevance maps where classes are given, in one call.

    Args:
        classifier: The model; what is trained of it is trained.
        wanted: Which maps.
    """

    def __init__(self, classifier: Classifier, wanted: MapsWanted):
        super().__init__()
        self.classifier, self.wanted = classifier, wanted
        self.method = METHODS[wanted.method]
        self.trace = AttentionTrace()
        self.size = (0, 0)
        self.layout: Layout | None = None

    def fit(self, size: tuple[int, int]) -> None:
        """Know how tokens mix in images (height, width); another size makes another graph."""
        if size != self.size:
            self.size, self.layout = size, layout_of(self.classifier.net, size)

    def forward(
        self, images: Tensor, classes: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Make the pass.

        Args:
            images: (B, 3, H, W) in [0, 1].
            classes: (B,) whose maps are made, `PREDICTION` for what the model predicts.

        Returns:
            Logits (B, C); with classes also maps (B, 1, H, W) in [0, 1], and which (B,) were
            constant.
        """
        if classes is None:
            return self.classifier(images)
        self.trace.clear()
        logits = self.classifier(images)
        chosen = torch.where(classes < 0, logits.detach().argmax(1), classes)
        made = ForwardPass(images, logits, self.trace)
        recorded = recorded_pass(made, chosen, self.layout, self.wanted.start_layer)
        maps, constant = min_max(self.method(recorded))
        self.trace.clear()
        return logits, maps, constant


class CompiledPass:
    """Makes the recorded passes of training steps by one compiled graph.

    Args:
        classifier: The model.
        wanted: Which maps the objectives ask for.

    Attributes:
        module: What is to be prepared for the devices and processes; `prepared` is what came of
            it.
        rows: Rows of the graph.

    Raises:
        VitreousError: If this torch cannot trace a backward pass within a graph.
    """

    def __init__(self, classifier: Classifier, wanted: MapsWanted):
        if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
            raise VitreousError(
                "training.compile with objectives that record attention needs a newer torch than "
                f"{torch.__version__}: one that traces torch.autograd.grad"
            )
        self.inner = RelevancePass(classifier, wanted)
        self.module = torch.compile(self.inner, fullgraph=True, dynamic=False)
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
        images, classes = batch.images, self._classes(batch)
        self.inner.fit((images.shape[-2], images.shape[-1]))
        rows = len(images)
        self.rows = max(self.rows, rows)
        if rows < self.rows and self.fills:
            filled = torch.arange(self.rows, device=images.device) % rows
            images, classes = images[filled], classes[filled]
        make_hook = make_recording_hook(self.inner.trace, self.inner.classifier)
        with (
            recording(self.inner.classifier, make_hook),
            torch._dynamo.config.patch(trace_autograd_ops=True),
        ):
            logits, maps, constant = prepared(images, classes)
        return ForwardPass(batch.images, logits[:rows], maps=(maps[:rows], constant[:rows]))

    def _classes(self, batch: Batch) -> Tensor:
        if self.inner.wanted.target == "prediction":
            return torch.full_like(batch.labels, PREDICTION)
        return batch.labels
