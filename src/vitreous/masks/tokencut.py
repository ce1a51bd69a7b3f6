"""TokenCut: foreground from a Vision Transformer's patch similarities, without any label.

Wang et al. 2022, "Self-supervised Transformers for unsupervised object discovery using normalized
cut". The image's patches form a graph; the second smallest eigenvector of its normalised cut
splits it in two, and the part that holds the most extreme patch is the object.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.data.images import to_uint8
from vitreous.errors import InputSizeError, UnsupportedModelError, VitreousError
from vitreous.masks.edges import refine
from vitreous.masks.eigenvectors import second_eigenvectors
from vitreous.models import Classifier
from vitreous.models.families import hooked_layers
from vitreous.models.layout import Network
from vitreous.models.modes import evaluation_mode

WEAK = 1e-5
Features = Literal["key", "query", "value", "token"]
FEATURES: tuple[str, ...] = get_args(Features)


@dataclasses.dataclass(frozen=True)
class Partition:
    """One image's cut.

    Attributes:
        foreground: (rows, columns) bool, the connected component of the seed.
        bipartition: (rows, columns) bool, the whole side of the seed.
        eigenvector: (rows, columns) float64, positive at the seed.
        seed: Row and column of the most extreme patch.
    """

    foreground: np.ndarray
    bipartition: np.ndarray
    eigenvector: np.ndarray
    seed: tuple[int, int]


def tokencut_masks(
    classifier: Classifier,
    images: Tensor,
    *,
    tau: float = 0.2,
    features: Features | None = None,
    edges: str = "bilateral",
    solver: str | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Find the foreground of images in memory.

    Args:
        classifier: A plain Vision Transformer; DINO, DINOv2 or DINOv3 weights serve best.
        images: (B, 3, H, W) float in [0, 1], of a size that the model takes.
        tau: Cosine similarity above which two patches are joined; the paper uses 0.2.
        features: What describes a patch, see `patch_features`; chosen by `best_features` where
            not given.
        edges: Refinement of the edges, a name in `vitreous.masks.edges.EDGES`; `none` leaves
            whole patches.
        solver: What finds the eigenvectors, a name in `vitreous.masks.eigenvectors.SOLVERS`;
            chosen by the device where not given.
        batch_size: Images in one pass through the model.

    Returns:
        (B, 1, H, W) float32 of 0 and 1 on the CPU; empty where an image's patches are all alike.

    Raises:
        UnsupportedModelError: If the model's tokens do not stay in place.
        VitreousError: If the model does not take images of this size.

    Examples:
        >>> import vitreous
        >>> settings = {"pretrained": False, "image_size": 32, "patch_size": 8, "depth": 1}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> masks = tokencut_masks(model, torch.rand(2, 3, 32, 32), edges="none")
        >>> masks.shape, set(masks.unique().tolist()) <= {0.0, 1.0}
        (torch.Size([2, 1, 32, 32]), True)
    """
    kind = features or best_features(classifier)
    masks = []
    for batch in images.split(batch_size):
        cuts = partitions(patch_features(classifier, batch, kind), tau=tau, solver=solver)
        masks += [refine(edges, to_uint8(i), c.foreground)[0] for i, c in zip(batch, cuts)]
    return torch.from_numpy(np.stack(masks)).float()[:, None]


def best_features(classifier: Classifier) -> Features:
    """The features that serve a model: `token` for DINOv2, else `key`, as published for DINO.

    A constant added to all keys of a head leaves attention as it is, so training does not fix it.
    In DINOv2 it dominates the keys' cosine similarities, and the cut then follows single patches
    (docs/results/masks.md has the numbers).
    """
    name = str((classifier.architecture or {}).get("architecture", classifier.name))
    return "token" if "dinov2" in name else "key"


def patch_features(classifier: Classifier, images: Tensor, kind: Features = "key") -> Tensor:
    """Describe each patch of images.

    Args:
        classifier: A plain Vision Transformer, left exactly as it was.
        images: (B, 3, H, W) float in [0, 1].
        kind: `key`, `query` or `value` of the last attention layer, all heads side by side
            (without rotary position embeddings: patches are compared by what they show, not by
            where they are), or `token`: the normalised output of the last block.

    Returns:
        (B, rows, columns, width) float32, without CLS, distillation and register tokens.

    Raises:
        UnsupportedModelError: If the model has no such features.
        VitreousError: If the model does not take images of this size.
    """
    net: Network = classifier.net
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    layers = list(hooked_layers(net).values())
    if patch is None or not layers or not hasattr(net, "num_prefix_tokens"):
        raise UnsupportedModelError(
            f"{type(net).__name__} is not a Vision Transformer with one stream of patches; "
            "TokenCut needs one, for example vit_base_patch16_224.dino"
        )
    found: list[Tensor] = []
    if kind == "token":
        norm = net.norm if not isinstance(net.norm, torch.nn.Identity) else net.blocks[-1]
        handle = norm.register_forward_hook(lambda _, __, output: found.append(output))
    else:

        def project_input(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            found.append(project_tokens(layer, arguments[0], kind))

        handle = layers[-1].register_forward_pre_hook(project_input)
    try:
        with torch.inference_mode(), evaluation_mode(classifier):
            classifier(images.to(classifier.device))
    except (AssertionError, InputSizeError) as error:
        raise VitreousError(
            f"{classifier.name} does not take pictures of {images.shape[3]}×{images.shape[2]} "
            f"pixels ({error}); load it with image_size"
        ) from error
    finally:
        handle.remove()
    rows, columns = images.shape[2] // patch[0], images.shape[3] // patch[1]
    patches = found[0][:, int(net.num_prefix_tokens) :]
    if patches.shape[1] != rows * columns:
        raise UnsupportedModelError(
            f"{type(net).__name__} has {patches.shape[1]} patches for a grid of {rows}×{columns}"
        )
    return patches.unflatten(1, (rows, columns)).float()


def project_tokens(layer: Network, tokens: Tensor, kind: Features) -> Tensor:
    """Project tokens by an attention layer's own weights, whatever it fuses with what.

    Args:
        layer: An attention layer of timm.
        tokens: (B, N, width), the layer's input.
        kind: `query`, `key` or `value`.

    Returns:
        (B, N, width'), all heads side by side, after the layer's own norm if it has one.
    """
    letter = kind[0]
    if getattr(layer, "qkv", None) is not None:
        width = layer.qkv.weight.shape[0] // 3
        part = slice("qkv".index(letter) * width, ("qkv".index(letter) + 1) * width)
        bias = None if layer.qkv.bias is None else layer.qkv.bias[part]
        if bias is None and letter != "k":
            bias = getattr(layer, f"{letter}_bias", None)
        projected = F.linear(tokens, layer.qkv.weight[part], bias)
    elif isinstance(getattr(layer, f"{letter}_proj", None), torch.nn.Module):
        projected = getattr(layer, f"{letter}_proj")(tokens)
    else:
        raise UnsupportedModelError(f"{type(layer).__name__} has no {kind} that can be read")
    norm = getattr(layer, f"{letter}_norm", None)
    if norm is None or isinstance(norm, torch.nn.Identity):
        return projected
    return norm(projected.unflatten(-1, (layer.num_heads, -1))).flatten(-2)


def partitions(keys: Tensor, *, tau: float = 0.2, solver: str | None = None) -> list[Partition]:
    """Cut each image of a batch in two.

    Affinities and eigenvectors are found where the keys are.

    Args:
        keys: (B, rows, columns, width).
        tau: Threshold of the similarity.
        solver: What finds the eigenvectors, a name in `vitreous.masks.eigenvectors.SOLVERS`;
            chosen by the device where not given.
    """
    grid = (int(keys.shape[1]), int(keys.shape[2]))
    if keys.device.type == "mps":  # it has no double precision
        keys = keys.cpu()
    vectors = second_eigenvectors(affinity(keys.flatten(1, 2), tau), solver)
    return [partition(vector, grid) for vector in vectors.cpu().numpy()]


def affinity(keys: Tensor, tau: float = 0.2) -> Tensor:
    """Join similar patches: 1 where the cosine similarity exceeds `tau`, else 1e-5.

    Args:
        keys: (B, N, width).
        tau: Threshold.

    Returns:
        (B, N, N) float64, symmetric.
    """
    unit = F.normalize(keys, dim=-1)
    similar = unit @ unit.mT
    return torch.where(similar > tau, 1.0, WEAK).to(torch.float64)


def partition(eigenvector: np.ndarray, grid: tuple[int, int]) -> Partition:
    """Split at the mean; the connected part of the largest absolute value is the foreground.

    Args:
        eigenvector: (N,). Where it is all zeros, no foreground comes of it.
        grid: Rows and columns, N in all.
    """
    from scipy import ndimage

    vector = eigenvector.reshape(grid)
    if not vector.any():
        return Partition(vector > 0, vector > 0, vector, (0, 0))
    # Patches with the same neighbours have the same value: of equals, the first, not rounding's.
    size = np.abs(eigenvector)
    seed = np.unravel_index(np.flatnonzero(size >= size.max() * (1 - 1e-9))[0], grid)
    side = vector > vector.mean()
    if not side[seed]:
        vector, side = -vector, ~side
    parts, _ = ndimage.label(side)
    return Partition(parts == parts[seed], side, vector, (int(seed[0]), int(seed[1])))
