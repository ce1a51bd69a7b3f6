"""Reading images, and the model, for methods that look at them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitreous.data.images import open_image, to_tensor
from vitreous.device import resolve_device
from vitreous.errors import ImageError, VitreousError, require
from vitreous.masks.base import Found, MaskError, MaskItem
from vitreous.models import Classifier, load_model

Maker = Callable[[list[Image.Image]], "list[Found] | list[Found | MaskError]"]
# ImageNet's, for networks that take images normalised by them: (1, 3, 1, 1).
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)


def find_in_images(items: Sequence[MaskItem], make: Maker) -> list[Found | MaskError]:
    """Read a batch of images and make their masks; an unreadable one becomes an error.

    Args:
        items: The batch.
        make: From the readable images to their masks, in order.
    """
    results: list[Found | MaskError] = []
    images: list[Image.Image] = []
    rows: list[int] = []
    for row, item in enumerate(items):
        try:
            images.append(open_image(item.source))
            rows.append(row)
            results.append(MaskError(f"{item.source}: no mask was made"))
        except ImageError as error:
            results.append(MaskError(str(error)))
    for row, found in zip(rows, make(images) if images else []):
        results[row] = found
    return results


class Entry(Protocol):
    """An input or an output of a network; dimensions left open have names."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> Sequence[int | str]: ...  # noqa: D102


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def get_inputs(self) -> Sequence[Entry]: ...  # noqa: D102

    def get_outputs(self) -> Sequence[Entry]: ...  # noqa: D102

    def run(  # noqa: D102
        self, names: Sequence[str] | None, inputs: Mapping[str, np.ndarray]
    ) -> Sequence[np.ndarray]: ...


def load_session(model: Path, device: str) -> Session:
    """Load an ONNX file into onnxruntime.

    Raises:
        VitreousError: If onnxruntime or the device is not there, or the file is no such model.
    """
    runtime = require("onnxruntime", "masks")
    if not model.is_file():
        raise VitreousError(f"no ONNX model at {model}")
    offered = runtime.get_available_providers()
    on_gpu = device != "cpu" and (device != "auto" or "CUDAExecutionProvider" in offered)
    wanted = "CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider"
    if wanted not in offered:
        raise VitreousError(f"this onnxruntime has no {wanted}; install onnxruntime-gpu")
    try:
        return runtime.InferenceSession(str(model), providers=[wanted])
    except Exception as error:  # onnxruntime's errors have no common public class
        text = " ".join(str(error).split())
        raise VitreousError(f"{model} is not an ONNX model that runs: {text}") from error


def run_session(
    session: Session, model: Path, inputs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run a network; outputs by name, in its order.

    Raises:
        VitreousError: If it does not take these inputs.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(None, inputs)))
    except Exception as error:  # onnxruntime's errors have no common public class
        text = " ".join(str(error).split())[:300]
        raise VitreousError(f"{model} does not run: {text}") from error


def not_finite(model: object) -> MaskError:
    """What is said of an image for which a model gives NaN or infinity."""
    return MaskError(f"{model} gives numbers that are not finite; are its weights whole?")


def squash(images: Sequence[Image.Image], size: tuple[int, int]) -> Tensor:
    """Resize whole images to one height and width, whatever their shape.

    Returns:
        (B, 3, H, W) float32 in [0, 1].
    """
    height, width = size
    resized = [p.resize((width, height), Image.Resampling.BICUBIC) for p in images]
    return torch.stack([to_tensor(image) for image in resized])


def pixels(image: Image.Image) -> np.ndarray:
    """Bytes (H, W, 3) of an image."""
    return np.array(image.convert("RGB"))


def load_classifier(
    model: str, checkpoint: str | None, image_size: int | None, device: str
) -> Classifier:
    """Load the model of a method; timm fetches its weights where no file is given.

    Without a network the hub tries for a minute or two and tells each failure; what is shown is
    the one line that says what to do.

    Raises:
        VitreousError: If the weights cannot be had, the model does not fit them, or there is no
            such device.
    """
    place = resolve_device(device)
    with _quiet_hub():
        return load_model(
            model,
            checkpoint=checkpoint,
            pretrained=checkpoint is None,
            image_size=image_size,
            device=place,
        )


@contextlib.contextmanager
def _quiet_hub() -> Generator[None]:
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)
