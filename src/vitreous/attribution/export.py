"""Models for other tools: timm and Hugging Face folders, ONNX graphs of logits and of relevance.

The relevance graph holds the backward pass as plain forward operations: the whole explanation,
gradients included, is traced once and written out, so any ONNX runtime computes maps without
automatic differentiation.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitreous.attribution import explain
from vitreous.errors import VitreousError, require
from vitreous.folders import check_file
from vitreous.io import atomic_path
from vitreous.models import Classifier
from vitreous.models.modes import evaluation_mode

PRODUCER = "vitreous.export"
LARGEST_BATCH = 4096
TRACED_BATCH = 7  # differs from 1, 3 and any image side, so that no size is mistaken for it


@dataclasses.dataclass(frozen=True)
class Check:
    """Largest absolute differences between our results and onnxruntime's.

    Attributes:
        logits: Over all logits.
        relevance: Over all pixels of the maps in [0, 1]; None for a graph without maps.
    """

    logits: float
    relevance: float | None = None


def export_onnx(
    classifier: Classifier,
    path: str | os.PathLike[str],
    *,
    relevance: bool = False,
    method: str = "gradient_attention",
    tolerance: float = 1e-5,
    map_tolerance: float = 1e-4,
    overwrite: bool = False,
) -> Check:
    """Write an ONNX graph from images in [0, 1] to logits, and to relevance maps if asked.

    Input `images` (batch, 3, H, W) float32 in [0, 1]; outputs `logits` (batch, classes) and
    `relevance` (batch, 1, H, W) in [0, 1] for the predicted class. The number of images is
    free; their size is the model's. The file carries class names, size, mean, standard deviation
    and view (`metadata`). The graph is compared with ours on random images before
    it is put in place.

    Args:
        classifier: The model; it is left as it was.
        path: File to write.
        relevance: Put the maps into the graph too.
        method: Relevance method of the maps.
        tolerance: Largest difference of logits that is accepted, relative to the largest logit (to
            1 where all are smaller).
        map_tolerance: Largest difference of maps that is accepted, in [0, 1].
        overwrite: Replace a file that is there although it is no graph of ours.

    Returns:
        The differences found.

    Raises:
        VitreousError: If another file is there, the extra `export` is not installed, the network
            cannot be written as ONNX, or onnxruntime's results differ by more than is accepted.
        UnsupportedModelError: If the method does not hold for this family.
    """
    check_file(path, PRODUCER.encode(), "an ONNX graph", overwrite=overwrite)
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "export")
    outputs = ["logits", "relevance"] if relevance else ["logits"]
    size = classifier.preprocessing.size
    images = torch.rand(TRACED_BATCH, 3, *size, generator=torch.Generator().manual_seed(0)).to(
        classifier.device
    )

    def together(examples: Tensor) -> tuple[Tensor, ...]:
        # ONNX has no word for the gradient of the fused kernel.
        with sdpa_kernel(SDPBackend.MATH):
            explained = explain(classifier, examples, method=method)
        return explained.logits, explained.relevance

    def alone(examples: Tensor) -> tuple[Tensor, ...]:
        return (classifier(examples),)

    compute = together if relevance else alone
    with evaluation_mode(classifier), _frozen(classifier):
        compute(images[:1])
        graph = _trace(compute, images, relevance)
        with atomic_path(path) as temporary:
            _write(graph, images, temporary, outputs, onnx_metadata(classifier))
            check = _compare(temporary, compute, images[:3])
            logits = compute(images[:3])[0]
            scale = max(1.0, logits.abs().max().item())
            _require_equal("logits", check.logits / scale, tolerance, Path(path))
            _require_equal("maps", check.relevance or 0.0, map_tolerance, Path(path))
    return check


@contextmanager
def _frozen(module: nn.Module) -> Generator[None]:
    """Take the weights out of automatic differentiation, so that they are traced as constants."""
    wanted = [(p, p.requires_grad) for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def _trace(
    compute: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, gradients: bool
) -> nn.Module:
    """Write a computation out as a graph of plain operations, backward pass included."""
    # ONNX has no word for the gradient of these activations either (EVA-02 has SiLU).
    table: Any = get_decompositions(
        [torch.ops.aten.silu_backward, torch.ops.aten.hardswish_backward]
    )
    trace = make_fx(compute, table, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    with torch.set_grad_enabled(gradients):
        traced: Any = trace(images)
    return traced


def onnx_metadata(classifier: Classifier) -> dict[str, str]:
    """What a program that runs the graph must know, as texts; `class_names` and lists are JSON.

    Normalization is inside the graph: `mean` and `std` say which, and are not to be applied again.
    """
    view = classifier.preprocessing
    values = {
        "class_names": [classifier.class_name(i) for i in range(classifier.num_classes)],
        "size": list(view.size),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "crop_ratio": view.crop_ratio,
        "crop_mode": view.crop_mode,
        "interpolation": view.interpolation,
        "input": "images (batch, 3, height, width), float32 in [0, 1]; normalization is inside",
    }
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def _write(
    graph: nn.Module, images: Tensor, path: Path, outputs: list[str], about: dict[str, str]
) -> None:
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    logger = logging.getLogger("torch.onnx")
    level, log = logger.level, io.StringIO()
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(log), redirect_stderr(log):
            warnings.simplefilter("ignore")  # deprecations inside torch's exporter
            program = torch.onnx.export(
                graph,
                (images,),
                input_names=["images"],
                output_names=outputs,
                dynamic_shapes=({0: batch},),
                dynamo=True,
                verbose=False,
                optimize=False,  # its pattern rewriter takes minutes; runtimes optimise anyway
            )
            if program is None:
                raise VitreousError("torch wrote no ONNX graph")
            optimizer = require("onnxscript.optimizer", "export")
            optimizer.fold_constants(program.model)
            optimizer.remove_unused_nodes(program.model)
            program.model.producer_name = PRODUCER  # it stands at the head of the file
            program.model.metadata_props.update(about)
            program.save(path)
    except torch.onnx.OnnxExporterError as error:
        raise VitreousError(f"this network cannot be written as ONNX: {_reason(error)}") from error
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of what an error came from, without colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error).strip()).splitlines()[0]


def _compare(path: Path, compute: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor) -> Check:
    """Run the file in onnxruntime for one image and for several, beside ours."""
    runtime = require("onnxruntime", "export")
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    largest = [0.0, 0.0]
    count = 1
    for batch in (images, images[:1]):
        exported = session.run(None, {"images": batch.cpu().numpy()})
        ours = compute(batch)
        count = len(ours)
        for place, (one, other) in enumerate(zip(ours, exported)):
            difference = (one.detach().cpu() - torch.from_numpy(other)).abs().max().item()
            largest[place] = max(largest[place], difference)
    return Check(largest[0], largest[1] if count == 2 else None)


def _require_equal(what: str, difference: float, tolerance: float, path: Path) -> None:
    if not difference <= tolerance:
        raise VitreousError(
            f"{path} was not written: {what} from onnxruntime differ from this model's by "
            f"{difference:.1e}, more than the tolerance {tolerance:g}"
        )
