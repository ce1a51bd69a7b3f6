"""Train the small pretrained model that the demo starts from: it knows objects, and tags.

It stands for a large pretrained model: sixteen kinds of objects on grounds and with tags at
random, so nothing is a shortcut yet. First it learns objects alone, then also what is beside
them (readouts name the tag and the pattern of the ground), as any broadly trained model does.
The auxiliary readouts are thrown away at the end.

    python -m vitreous.demo.pretrain --out pretrained

About 15 minutes on two cores; interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from vitreous.data.generated.scenes import (
    KINDS,
    PATTERN_KINDS,
    Scenes,
    World,
    draw_scenes,
    sample_scenes,
)
from vitreous.io import atomic_path
from vitreous.models import Classifier, load_model, save_model
from vitreous.models.families import Network

WORLD = World(classes=KINDS, object_size=(0.48, 0.72))
ARCHITECTURE: dict[str, int] = {"patch_size": 6, "embed_dim": 96, "depth": 4, "num_heads": 4}
BATCH, ROUND, RATE = 64, 50, 2e-3
STEPS, HORIZON = 3450, 5000
SECOND_STAGE = 1650
BARE = 0.3
COVERED = 0.35
TAG_WEIGHT, PATTERN_WEIGHT = 0.5, 0.3


class Heads(nn.ModuleDict):
    """Auxiliary readouts: what each patch shows; the tag, and the pattern, of the image."""

    def __init__(self, width: int):
        count = len(WORLD.classes) + 1
        sizes = {"patch": count, "tag": count, "pattern": len(PATTERN_KINDS)}
        super().__init__({name: nn.Linear(width, size) for name, size in sizes.items()})


def main() -> None:
    """Train, save the state every few steps, write the model at the end."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("pretrained"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pause", type=int, default=None, help="stop after so many steps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    classifier = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=len(KINDS),
        image_size=WORLD.size,
        class_names=KINDS,
        normalization="half",
        **ARCHITECTURE,  # ty: ignore[invalid-argument-type]
    )
    heads = Heads(ARCHITECTURE["embed_dim"])
    modules = nn.ModuleDict({"net": classifier.net, "heads": heads})
    optimizer = torch.optim.AdamW(modules.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.05)
    state, done = arguments.out / "state.pt", 0
    if state.is_file():
        stored = torch.load(state, weights_only=True)
        modules.load_state_dict(stored["modules"])
        optimizer.load_state_dict(stored["optimizer"])
        done = stored["done"]
    stop = arguments.steps if arguments.pause is None else done + arguments.pause
    with trange(done, min(stop, arguments.steps), ROUND, desc="pretraining") as bar:
        for start in bar:
            figures = train_round(classifier, modules, optimizer, start, arguments)
            bar.set_postfix({k: f"{v:.3f}" for k, v in figures.items()})
            with atomic_path(state) as temporary:
                torch.save(
                    {
                        "modules": modules.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "done": start + ROUND,
                    },
                    temporary,
                )
    if stop >= arguments.steps:
        classifier.name = "demo, pretrained"
        print(f"model: {save_model(half_precision(classifier), arguments.out)}")


def train_round(
    classifier: Classifier,
    modules: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    start: int,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Draw fresh images for a round and take its steps; returns mean losses."""
    seed = 1_000_003 * (arguments.seed + 1) + start
    scenes = sample_scenes(WORLD, BATCH * ROUND, seed=seed, agreement=1 / len(KINDS))
    random = torch.Generator().manual_seed(seed)
    bare = torch.rand(len(scenes), generator=random) < BARE
    scenes = dataclasses.replace(scenes, cues=torch.where(bare, -1, scenes.cues))
    images, masks = draw_scenes(WORLD, scenes)
    if start == SECOND_STAGE:
        optimizer.state.clear()
    modules.train()
    totals: dict[str, float] = {}
    for place, rows in enumerate(torch.randperm(len(scenes), generator=random).split(BATCH)):
        share = (start + place) / HORIZON
        rate = min(1.0, (start + place + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate
        part = scenes[rows]
        losses = compute_losses(classifier, modules, images[rows], masks[rows], part)
        if start < SECOND_STAGE:
            losses = {name: losses[name] for name in ("object", "patch")}
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0.0) + float(loss.detach()) / ROUND
    return totals


def compute_losses(
    classifier: Classifier, modules: nn.ModuleDict, images: Tensor, masks: Tensor, scenes: Scenes
) -> dict[str, Tensor]:
    """Cross entropies: the object, what each patch shows, the tag, the pattern."""
    net: Network = classifier.net
    heads: Network = modules["heads"]
    tokens = net.forward_features((images - classifier.mean) / classifier.std)
    covered = F.avg_pool2d(masks, ARCHITECTURE["patch_size"]).flatten(1) > COVERED
    shown = torch.where(covered, scenes.labels[:, None], len(KINDS))
    tags = torch.where(scenes.cues < 0, len(KINDS), scenes.cues)
    patches = heads["patch"](tokens[:, 1:])
    return {
        "object": F.cross_entropy(net.forward_head(tokens), scenes.labels, label_smoothing=0.05),
        "patch": F.cross_entropy(patches.flatten(0, 1), shown.flatten()),
        "tag": TAG_WEIGHT * F.cross_entropy(heads["tag"](tokens[:, 0]), tags),
        "pattern": PATTERN_WEIGHT * F.cross_entropy(heads["pattern"](tokens[:, 0]), scenes.ground),
    }


def half_precision(classifier: Classifier) -> Classifier:
    """Store weights in 16 bits: half the size; they are read back as 32."""
    classifier.net.half()
    return classifier


if __name__ == "__main__":
    main()
