"""ONNX graphs of trained models beside the models: logits and maps on real pictures.

    python benchmarks/export.py --model vitreous-demo/guided
    python benchmarks/export.py --dinov2 dinov2_vits14.safetensors --data tiny_imagenet_50/

The first takes 32 of the demo's pictures. The second puts a head on a DINOv2 ViT-S/14 at 224
pixels, fits it to 20 pictures of each of the first 10 classes, and takes 3 validation pictures of
each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor
from torch.nn import functional

from vitreous import load_model, relevance
from vitreous.attribution.export import export_onnx
from vitreous.data.generated.scenes import World, draw_scenes, sample_scenes
from vitreous.data.images import evaluation_transform
from vitreous.models import Classifier

BATCH = 8


def read(root: Path, count: int, classifier: Classifier) -> tuple[Tensor, Tensor]:
    """The first pictures of each of the first 10 classes, and their labels."""
    view = evaluation_transform(classifier.preprocessing)
    files = [
        (path, label)
        for label, folder in enumerate(sorted(root.iterdir())[:10])
        for path in sorted(folder.iterdir())[:count]
    ]
    images = [view(Image.open(path).convert("RGB")) for path, _ in files]
    return torch.stack(images), torch.tensor([label for _, label in files])


def dinov2(weights: Path, data: Path) -> tuple[Classifier, Tensor]:
    """A backbone with a head that was fitted to its features, and pictures to compare on."""
    name = "vit_small_patch14_dinov2.lvd142m"
    classifier = load_model(name, pretrained=False, num_classes=10, image_size=224)
    state = {k.removeprefix("backbone."): v.float() for k, v in load_file(weights).items()}
    net: Any = classifier.net
    net.load_state_dict(
        checkpoint_filter_fn({k: v for k, v in state.items() if "decoder" not in k}, net),
        strict=False,
    )
    images, labels = read(data / "train", 20, classifier)
    with torch.no_grad():
        normalised = ((images - classifier.mean) / classifier.std).split(BATCH)
        parts = [net.forward_head(net.forward_features(x), pre_logits=True) for x in normalised]
    features, optimizer = torch.cat(parts), torch.optim.LBFGS(net.head.parameters(), max_iter=100)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net.head(features), labels)
        value = value + 1e-4 * net.head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    images, labels = read(data / "val", 3, classifier)
    with torch.no_grad():
        right = torch.cat([classifier(x) for x in images.split(BATCH)]).argmax(1) == labels
    print(f"accuracy on {len(labels)} pictures: {right.float().mean():.0%}")
    return classifier, images


def main() -> None:
    """Export, run the graph, print the largest differences."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a run folder of the demo")
    parser.add_argument("--dinov2", type=Path, help="weights of DINOv2 ViT-S/14")
    parser.add_argument("--data", type=Path, help="folder with train/ and val/")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.model:
        classifier, world = load_model(options.model), World()
        images = draw_scenes(world, sample_scenes(world, 32, seed=5))[0]
    else:
        classifier, images = dinov2(options.dinov2, options.data)
    classifier.eval()
    with torch.no_grad():
        logits = torch.cat([classifier(x) for x in images.split(BATCH)])
    maps = torch.cat([relevance(classifier, x) for x in images.split(BATCH)])
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder) / "both.onnx", time.perf_counter()
        export_onnx(classifier, path, relevance=True)
        seconds = time.perf_counter() - began
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = [session.run(None, {"images": x.numpy()}) for x in images.split(BATCH)]
    other, other_maps = (torch.cat([torch.from_numpy(f[i]) for f in found]) for i in (0, 1))
    difference, largest = (other - logits).abs().max(), logits.abs().max()
    print(f"logits: {difference:.1e}, of the largest ({largest:.1f}) {difference / largest:.1e}")
    print(f"maps: {(other_maps - maps).abs().max():.1e}")
    print(f"written in {seconds:.0f} s")


if __name__ == "__main__":
    main()
