"""TokenCut against the published algorithm with dense matrices and a dense eigensolver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional as F

from vitreous.data.images import load_image
from vitreous.errors import UnsupportedModelError, VitreousError
from vitreous.masks import MASK_METHODS as MASK_SOURCES
from vitreous.masks import tokencut_masks
from vitreous.masks.edges import EDGES, refine, safest
from vitreous.masks.eigenvectors import SOLVERS, best_solver, second_eigenvectors
from vitreous.masks.tokencut import (
    affinity,
    best_features,
    partition,
    partitions,
    patch_features,
)
from vitreous.models import load_model


def published(keys: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Normalised cut as in the paper: dense matrices, LAPACK. The seed's side, and the vector."""
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    weights = np.where(unit @ unit.T > tau, 1.0, 1e-5)
    degree = np.diag(weights.sum(1))
    _, vectors = scipy.linalg.eigh(degree - weights, degree, subset_by_index=[1, 1])
    vector = vectors[:, 0]
    seed = int(np.argmax(np.abs(vector)))
    side = vector > vector.mean()
    return (side if side[seed] else ~side), np.abs(vector)


def component(side: np.ndarray, seed: tuple[int, int]) -> set[tuple[int, int]]:
    """Flood fill with four neighbours."""
    found, edge = {seed}, [seed]
    while edge:
        row, column = edge.pop()
        for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= near[0] < side.shape[0] and 0 <= near[1] < side.shape[1]
            if inside and side[near] and near not in found:
                found.add(near)
                edge.append(near)
    return found


def clusters(seed: int, rows: int, columns: int) -> torch.Tensor:
    """Noisy keys of three groups of patches."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 24, generator=random)
    group = torch.zeros(rows, columns, dtype=torch.int64)
    group[1 : rows // 2, 2 : columns // 2] = 1
    group[-3:, -4:] = 2
    return centres[group] + 0.9 * torch.randn(rows, columns, 24, generator=random)


@pytest.mark.parametrize("solver", [None, *SOLVERS])
@pytest.mark.parametrize("tau", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_the_cut_is_that_of_the_dense_algorithm(seed, tau, solver):
    keys = clusters(seed, 9, 11)
    cut = partitions(keys[None], tau=tau, solver=solver)[0]
    side, size = published(keys.flatten(0, 1).double().numpy(), tau)
    assert (cut.bipartition.ravel() == side).all()
    assert size.reshape(9, 11)[cut.seed] == pytest.approx(size.max(), rel=1e-6)
    assert set(zip(*map(list, np.nonzero(cut.foreground)))) == component(cut.bipartition, cut.seed)


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_a_batch_is_solved_like_its_pictures(solver):
    alike = torch.ones(9, 11, 24)
    batch = torch.stack([clusters(4, 9, 11), alike, clusters(5, 9, 11), clusters(6, 9, 11)])
    vectors = second_eigenvectors(affinity(batch.flatten(1, 2)), solver)
    assert not vectors[1].any()
    for keys, vector in zip(batch[[0, 2, 3]].double().flatten(1, 2), vectors[[0, 2, 3]]):
        _, expected = published(keys.numpy(), 0.2)
        np.testing.assert_allclose(vector.abs(), expected, rtol=1e-6, atol=1e-9 * expected.max())


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_graphs_of_few_eigenvalues_are_solved(solver):
    # Two groups, each alike: the Krylov space ends after two steps, the rest is rounding.
    group = (torch.arange(40) < 13).double()
    matrix = torch.where(group[:, None] == group, 1.0, 1e-5).double()
    vector = second_eigenvectors(matrix[None], solver)[0]
    assert vector[:13].std() < 1e-9 and vector[13:].std() < 1e-9
    assert vector[0].sign() == -vector[-1].sign() and vector[0].abs() > vector[-1].abs()


def test_the_lanczos_iteration_finishes_where_eigenvalues_are_close():
    # A chain has the closest eigenvalues of all graphs: many more than one round of steps.
    count = 200
    near = (torch.arange(count)[:, None] - torch.arange(count)).abs() <= 1
    matrix = torch.where(near, 1.0, 1e-5).double()
    found, expected = (second_eigenvectors(matrix[None], name)[0] for name in ("lanczos", "dense"))
    sign = (found @ expected).sign()
    torch.testing.assert_close(found * sign, expected, rtol=0, atol=1e-8 * expected.abs().max())


def test_the_solver_follows_the_device_and_unknown_ones_are_refused():
    assert best_solver(torch.device("cpu")) == "arpack"
    assert best_solver(torch.device("cuda:1")) == "lanczos"
    with pytest.raises(VitreousError, match="did you mean 'lanczos'"):
        MASK_SOURCES["tokencut"](solver="lanzcos")
    with pytest.raises(VitreousError, match="found 2 patches, expected 4 or more"):
        partitions(torch.rand(1, 1, 2, 8))


@pytest.mark.gpu
@pytest.mark.parametrize("solver", [None, *SOLVERS])
def test_the_cut_on_a_gpu_is_that_of_the_dense_algorithm(solver):
    batch = torch.stack([clusters(seed, 14, 14) for seed in range(4)])
    vectors = second_eigenvectors(affinity(batch.cuda().flatten(1, 2)), solver)
    assert vectors.is_cuda
    for keys, cut in zip(batch, partitions(batch.cuda(), solver=solver)):
        side, _ = published(keys.flatten(0, 1).double().numpy(), 0.2)
        assert (cut.bipartition.ravel() == side).all()


@pytest.mark.gpu
def test_masks_from_a_gpu_are_those_from_the_cpu():
    classifier = load_model("vit_tiny_patch16_224", pretrained=False, image_size=96)
    images = torch.rand(3, 3, 96, 96)
    expected = tokencut_masks(classifier, images, edges="none", tau=0.99)
    found = tokencut_masks(classifier.cuda(), images, edges="none", tau=0.99)
    assert (found != expected).float().mean() < 0.02


@pytest.mark.parametrize("solver", list(SOLVERS))
def test_the_cut_of_photos_is_that_of_the_dense_algorithm(shared: Path, tmp_path: Path, solver):
    import zipfile

    with zipfile.ZipFile(shared / "data" / "coco64_seg.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".jpg")][:4]
        archive.extractall(tmp_path, names)
    classifier = load_model(
        "vit_small_patch14_dinov2.lvd142m",
        checkpoint=shared / "data" / "weights" / "dinov2_vits14_saliency_fp16.safetensors",
        pretrained=False,
        image_size=224,
    )
    inputs = [load_image(tmp_path / name)[None] for name in names]
    images = torch.cat([F.interpolate(p, (224, 224), mode="area") for p in inputs])
    features = patch_features(classifier, images, "token")
    for one, cut in zip(features, partitions(features, solver=solver)):
        side, _ = published(one.flatten(0, 1).double().numpy(), 0.2)
        assert (cut.bipartition.ravel() == side).all()


def test_the_sign_of_the_eigenvector_does_not_matter():
    vector = np.array([0.9, 0.8, -0.1, -0.2, -0.1, -0.2, -0.1, -0.1, -0.2])
    first, second = partition(vector, (3, 3)), partition(-vector, (3, 3))
    assert (first.foreground == second.foreground).all()
    assert first.foreground.sum() == 2 and first.seed == (0, 0)


def test_a_picture_whose_patches_are_all_alike_has_no_foreground():
    keys = torch.ones(1, 6, 7, 8)
    assert not partitions(keys)[0].foreground.any()
    classifier = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64)
    with torch.no_grad():
        for parameter in classifier.net.blocks[-1].attn.parameters():
            parameter.fill_(1e-3)
    assert tokencut_masks(classifier, torch.zeros(1, 3, 64, 64)).sum() == 0


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224",
        "eva02_tiny_patch14_224",
        "vit_small_patch16_dinov3",
    ],
)
def test_keys_are_those_that_the_layer_attends_with(name):
    classifier = load_model(name, pretrained=False, image_size=224)
    net = classifier.net
    images = torch.rand(2, 3, 224, 224)
    seen: list[torch.Tensor] = []
    layer = net.blocks[-1].attn
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        classifier(images)
    hook.remove()
    rows = 224 // net.patch_embed.patch_size[0]
    if hasattr(layer, "qkv") and layer.qkv is not None:
        width = layer.qkv.in_features
        keys = layer.qkv(seen[0])[..., width : 2 * width]
    else:
        keys = layer.k_proj(seen[0])
    expected = keys[:, net.num_prefix_tokens :].detach().unflatten(1, (rows, rows))
    torch.testing.assert_close(patch_features(classifier, images), expected)
    assert not layer._forward_pre_hooks


def test_masks_do_not_depend_on_the_batch_and_the_model_stays_as_it_was():
    classifier = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64).train()
    images = torch.rand(3, 3, 64, 64)
    together = tokencut_masks(classifier, images, edges="none")
    alone = torch.cat([tokencut_masks(classifier, i[None], edges="none") for i in images])
    assert classifier.training and together.shape == (3, 1, 64, 64)
    assert torch.equal(together, alone) and set(together.unique().tolist()) <= {0.0, 1.0}


def test_the_features_follow_the_family():
    tokens = load_model("vit_small_patch14_dinov2", pretrained=False, image_size=56, depth=1)
    keys = load_model("vit_tiny_patch16_224", pretrained=False)
    assert best_features(tokens) == "token" and best_features(keys) == "key"


def test_other_models_and_sizes_are_refused():
    with pytest.raises(UnsupportedModelError, match="one stream of patches"):
        patch_features(load_model("resnet18", pretrained=False), torch.rand(1, 3, 64, 64))
    with pytest.raises(VitreousError, match="does not take pictures of 96×64"):
        vit = load_model("vit_tiny_patch16_224", pretrained=False, image_size=64)
        patch_features(vit, torch.rand(1, 3, 64, 96))


def disc(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return x**2 + y**2 < (0.3 * size) ** 2


@pytest.mark.parametrize("name", list(EDGES))
def test_edges_follow_the_picture_and_both_sides_stay_sides(name):
    cv2 = pytest.importorskip("cv2")
    if name == "guided" and not hasattr(cv2, "ximgproc"):
        pytest.skip("this OpenCV has no contributed modules")
    truth = disc(128)
    noise = np.random.default_rng(0).normal(0, 6, (128, 128, 3))
    colors = np.where(truth[..., None], (200, 60, 40), (40, 90, 160)) + noise
    coarse = truth.reshape(16, 8, 16, 8).mean((1, 3)) > 0.3
    refined, _ = refine(name, colors.clip(0, 255).astype(np.uint8), coarse)
    before = np.kron(coarse, np.ones((8, 8), bool))
    error = (refined != truth).mean()
    assert error <= (before != truth).mean() * (1.0 if name == "none" else 0.5)


def test_an_inverted_mask_is_turned_back_and_an_emptied_one_refused():
    coarse = disc(32)
    turned, note = safest(coarse, ~coarse)
    assert (turned == coarse).all() and "swapped" in note
    kept, note = safest(coarse, np.zeros_like(coarse))
    assert (kept == coarse).all() and "lost" in note
