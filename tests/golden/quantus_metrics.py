"""Write what Quantus 0.6.0 measures of random maps of a small network.

    python quantus_metrics.py OUT.npz

Runs where quantus is installed. The network, the images, the masks and the maps follow from seeds.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

SIDE, COUNT, CLASSES, STEPS, PATCH, RADIUS, DRAWS = 12, 24, 3, 8, 4, 0.05, 3
PERCENTAGES = (30, 60, 90)


class Wide(nn.Module):
    """Rows of float64: Quantus hands over float32."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().flatten(1)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (Wide(), nn.Linear(SIDE**2, 16), nn.GELU(), nn.Linear(16, CLASSES))
    layers[1].weight.data.mul_(8)  # so that answers change when pixels go
    return nn.Sequential(*layers).double().eval()


def inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (COUNT, 1, SIDE, SIDE)
    masks = np.zeros(shape, bool)
    for place, mask in enumerate(masks):
        mask[0, place % 6 : place % 6 + 5, 2:9] = True
    images = random.random(shape, np.float32).astype(np.float64)
    return {
        "images": images,
        "maps": random.random(shape),
        "masks": masks,
        "labels": network()(torch.from_numpy(images)).argmax(1).numpy(),
    }


def gradients(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
    images = torch.tensor(np.asarray(inputs)).double().requires_grad_()
    logits = model(images)
    logits[torch.arange(len(images)), torch.tensor(targets)].sum().backward()
    assert images.grad is not None
    return images.grad.abs().numpy()


def main(path: str) -> None:
    import quantus  # ty: ignore[import-not-found]

    same = {
        "abs": False,
        "normalise": False,
        "disable_warnings": True,
        "display_progressbar": False,
    }
    given, model = inputs(), network()
    images, labels = given["images"], given["labels"]
    own = gradients(model, images, labels)

    def measure(metric: object, maps: np.ndarray, **more: object) -> object:
        settings = {"channel_first": True, "softmax": False, "batch_size": COUNT, **more}
        return metric(
            model=model,
            x_batch=images.copy(),
            y_batch=labels,
            a_batch=maps.copy(),
            s_batch=given["masks"],
            device="cpu",
            **settings,
        )

    maps, explained = given["maps"], {"explain_func": gradients}
    spearman = quantus.similarity_func.correlation_spearman
    width = -(-(SIDE**2) // STEPS)
    flips = quantus.PixelFlipping(features_in_step=width, perturb_baseline=0.0, **same)
    infidelity = quantus.Infidelity(
        perturb_baseline=0.0, perturb_patch_sizes=[PATCH], n_perturb_samples=1, **same
    )
    road = quantus.ROAD(percentages=list(PERCENTAGES), noise=0.0, **same)
    sensitivity = quantus.MaxSensitivity(nr_samples=DRAWS, lower_bound=RADIUS, **same)
    cascade = quantus.MPRT(similarity_func=spearman, layer_order="top_down", seed=42, **same)
    logit = quantus.RandomLogit(similarity_func=spearman, num_classes=CLASSES, seed=42, **same)
    arrays = {
        "rank_accuracy": measure(quantus.RelevanceRankAccuracy(**same), maps),
        "mass": measure(quantus.RelevanceMassAccuracy(**same), maps),
        "roc_area": measure(quantus.AUC(**same), maps),
        "gini": measure(quantus.Sparseness(**same), maps),
        "entropy": measure(quantus.Complexity(**same), maps),
        "pixel_flipping": measure(flips, maps),
        "infidelity": measure(infidelity, maps),
        "road": list(measure(road, maps).values()),
    }
    np.random.seed(0)
    arrays["max_sensitivity"] = measure(sensitivity, own, **explained)
    layers = measure(cascade, own, **explained)
    arrays["cascade"] = [values for name, values in layers.items() if name != "original"]
    arrays["random_logit"] = measure(logit, own, **explained)
    made = {name: np.asarray(values, dtype=np.float64) for name, values in arrays.items()}
    np.savez_compressed(path, **made)


if __name__ == "__main__":
    main(sys.argv[1])
