"""Speed of explanation methods against captum, pytorch-grad-cam and legrad-torch, and the floor.

    python benchmarks/methods.py --packages OTHERS

The same work each: Grad-CAM of the last block, 32 steps of integrated gradients, occlusion by
squares of 16 px, and LeGrad; ours and theirs take turns on one network (LeGrad: theirs on
open_clip's tower of the same shape, since it reads no other). That both give the same maps is shown
by `tests/attribution/test_other_methods.py`, from numbers that these packages wrote. The floor is
the passes that the method's definition asks for: forward passes, and backward passes that reach the
images; its share is its time over that of each. Told are medians, half of what lies between the
quartiles and, measured apart, the peak of memory beyond model and images. The packages are read
from a folder, since they pin others' versions; one that is not there is left out, saying so:

    uv pip install --target OTHERS --no-deps captum==0.9.0 grad-cam==1.5.7 ttach==0.0.3 \\
        legrad-torch==1.1 einops
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

import vitreous
from turns import compare
from vitreous import Classifier

SIZE, STEPS, TARGET, SIDE = 224, 32, 7, 16
Call = Callable[[], object]


@dataclass
class Arguments:
    """Settings of the benchmark."""

    model: str = "deit_small_patch16_224"
    packages: Path | None = None
    """Folder that the packages were installed to."""
    batch: int = 4
    repeats: int = 5
    threads: int = 2
    device: str = "cpu"


def forward_pass(model: nn.Module, images: Tensor, times: int = 1) -> None:
    """Forward passes alone."""
    with torch.no_grad():
        for _ in range(times):
            model(images)


def both_passes(model: nn.Module, images: Tensor, times: int = 1) -> None:
    """Forward passes, and backward passes that reach the images."""
    for _ in range(times):
        seen = images.clone().requires_grad_()
        torch.autograd.grad(model(seen)[:, TARGET].sum(), seen)


def grad_cam(model: Classifier, images: Tensor) -> Call:
    """pytorch-grad-cam's, of the last block's first norm."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = model.net
    rows = SIZE // 16

    def to_image(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), rows, rows, -1).permute(0, 3, 1, 2)

    cam = GradCAM(model, [net.blocks[-1].norm1], reshape_transform=to_image)
    return lambda: cam(images, [ClassifierOutputTarget(TARGET)] * len(images))


def integrated_gradients(model: Classifier, images: Tensor) -> Call:
    """captum's, as many images at a time as ours takes."""
    from captum.attr import IntegratedGradients

    return lambda: IntegratedGradients(model).attribute(
        images,
        baselines=0.0,
        target=TARGET,
        n_steps=STEPS,
        method="gausslegendre",
        internal_batch_size=len(images),
    )


def occlusion(model: Classifier, images: Tensor) -> Call:
    """captum's."""
    from captum.attr import Occlusion

    window = (3, SIDE, SIDE)
    return lambda: Occlusion(model).attribute(
        images, window, strides=window, baselines=0.5, target=TARGET
    )


def legrad(model: Classifier, images: Tensor) -> Call:
    """legrad-torch's, which takes one image at a time, on a tower of the same shape."""
    from legrad import LeWrapper
    from open_clip.transformer import VisionTransformer

    net = model.net
    width, depth, heads = net.embed_dim, len(net.blocks), net.blocks[0].attn.num_heads
    tower = VisionTransformer(SIZE, 16, width, depth, heads, 4.0, output_dim=net.num_classes)
    whole: Any = nn.Module()
    whole.visual = tower
    whole.encode_image = lambda seen: tower(seen)
    wrapped = LeWrapper(whole.eval().to(images.device), layer_index=0)
    prompt = torch.eye(net.num_classes, device=images.device)[TARGET : TARGET + 1]
    return lambda: [wrapped.compute_legrad_clip(prompt, image[None]) for image in images]


def main(arguments: Arguments) -> None:
    """Print a line for each method."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.packages is not None:
        sys.path.append(str(arguments.packages))
    model = vitreous.load_model(arguments.model, pretrained=False)
    model = model.eval().to(arguments.device)
    images = torch.rand(arguments.batch, 3, SIZE, SIZE, device=arguments.device)
    windows = (SIZE // SIDE) ** 2
    cases: dict[str, tuple[str, Callable[[Classifier, Tensor], Call], Call]] = {
        "gradcam_block": ("pytorch_grad_cam", grad_cam, partial(both_passes, model, images)),
        "integrated_gradients": (
            "captum",
            integrated_gradients,
            partial(both_passes, model, images, STEPS),
        ),
        "occlusion": ("captum", occlusion, partial(forward_pass, model, images, windows + 1)),
        "legrad": ("legrad", legrad, partial(both_passes, model, images)),
    }
    print(f"{arguments.model}, batch {arguments.batch}, {arguments.threads} threads")
    for method, (package, theirs, floor) in cases.items():
        work = {"ours": partial(vitreous.relevance, model, images, TARGET, method), "floor": floor}
        print(f"\n{method}")
        if importlib.util.find_spec(package) is None:
            print(f"  {package} is left out: --packages names no folder that has it")
        else:
            work[package] = theirs(model, images)
        print(*compare(work, arguments.repeats, arguments.device), sep="\n", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
