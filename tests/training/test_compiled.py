"""A compiled step with its relevance maps is the step: one graph, the same weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from helpers import small_crossvit, tiny_recipe, tiny_vit, write_masked_set
from vitreous.config import build
from vitreous.data.batch import Batch
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model
from vitreous.training import Recipe, train
from vitreous.training.adversaries.gradient import BatchLoss, image_gradient, passes_made_by
from vitreous.training.compiled import CompiledPass
from vitreous.training.engine import Trainer
from vitreous.training.graphs import Compilation
from vitreous.training.objectives.classification import Classification
from vitreous.training.objectives.relevance import Relevance
from vitreous.training.objectives.relevance_consistency import RelevanceConsistency
from vitreous.training.run import RunFolder
from vitreous.training.step import compute_loss

FGSM = {"name": "pgd", "steps": 1, "epsilon": 4 / 255, "step_size": 5 / 255}
CONSISTENT = {"classification": {}, "relevance_consistency": {}}
LABEL, PREDICTION = {"classification": {}, "relevance": {}}, {"target": "prediction"}
RELEASED = {"gradient": "released", "weight": 1e4}
RECIPES: dict[str, dict[str, Any]] = {
    "relevance": {},
    "prediction": {"objectives": {"classification": PREDICTION, "relevance": PREDICTION}},
    "some layers": {"objectives": {"classification": {}, "relevance": {"start_layer": 1}}},
    "joint": {"objectives": {**LABEL, "relevance_consistency": {}}, "adversary": FGSM},
    "bfloat16": {"precision": "bfloat16"},
    "parts": {"accumulation": 3},
    "trades": {
        "objectives": {"relevance": {"images": "clean"}, "trades": {}},
        "adversary": {"name": "pgd", "loss": "kl", "epsilon": 4 / 255},
    },
    "predicted under attack": {
        "objectives": {
            "relevance": {**PREDICTION, "images": "clean"},
            "relevance_consistency": PREDICTION,
            "background_swap": {"consistency": 1.0},
        },
        "adversary": {**FGSM, "norm": "l2", "epsilon": 0.5, "step_size": 0.5},
    },
    "plain": {"objectives": {"classification": {}, "gradalign": {}}, "adversary": FGSM},
    "input gradients": {
        "objectives": {"classification": {}, "rrr": {"weight": 100.0}, "gradmask": RELEASED}
    },
    "second order": {
        "objectives": {**LABEL, "relevance": {"second_order": True}, "gradmask": {"weight": 1e3}}
    },
}
GRAPHS = {
    "joint": {"adversary": 1, "step": 1},
    "trades": {"logits": 1, "adversary": 1, "step": 1},
    "predicted under attack": {"adversary": 1, "step": 1, "some rows": 1},
    "plain": {"adversary": 1, "step": 1},
}
TRACED = ("prediction", "some layers", "parts", "trades", "predicted under attack", "plain")
OPTIONS = ("precision", "accumulation")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images to train with, in batches of five and four."""
    root = tmp_path_factory.mktemp("set")
    write_masked_set(root, per_class=4)
    return root


def trained(
    root: Path, out: Path, name: str, compiled: bool, classifier: Classifier | None = None
) -> tuple[Any, list[dict[str, Any]]]:
    """Weights and metrics of two epochs; a run of a given classifier is quiet."""
    changes = dict(RECIPES[name])
    options = {k: changes.pop(k) for k in OPTIONS if k in changes}
    training = {"epochs": 2, "batch_size": 5, "trackers": [], "samples": 0, **options}
    optimizer = {"name": "sgd", "lr": 0.05}  # Adam makes steps of rounding
    values = tiny_recipe(
        root, training={**training, "compile": compiled}, optimizer=optimizer, **changes
    )
    train(build(Recipe, values), out, classifier=classifier, quiet=classifier is not None)
    state = RunFolder(out).load_state()
    assert state is not None
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return state["model"], [json.loads(line) for line in lines]


def results_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())["extra"]


def values_of(name: str) -> dict[str, Any]:
    """Its objectives."""
    return RECIPES[name].get("objectives", LABEL)


@pytest.fixture
def traced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile for real but for the code of the processor, which takes half a minute.

    Some recipes are but traced, which takes half of the time, and not derived ahead.
    """
    fixed = getattr(request.node, "callspec", None)
    name = "" if fixed is None else fixed.params.get("name", "")
    backend = "eager" if name in TRACED else "aot_eager"
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("name", RECIPES)
def test_a_compiled_training_is_the_training(
    name: str,
    root: Path,
    tmp_path: Path,
    traced: None,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected, figures = trained(root, tmp_path / "plain", name, False)
    assert not counters["stats"]
    assert "compiled in" not in capsys.readouterr().out
    assert "compiled" not in results_of(tmp_path / "plain")
    weights, found = trained(root, tmp_path / "compiled", name, True)
    graphs = GRAPHS.get(name, {"step": 1})
    assert capsys.readouterr().out.count(f"s: {', '.join(graphs)} (") == 1
    assert counters["stats"]["unique_graphs"] == len(graphs), "smaller batches use them too"
    assert not counters["graph_break"]
    assert not [r for r in caplog.records if r.name == "vitreous.training.graphs"]
    told = results_of(tmp_path / "compiled")["compiled"]
    assert told["graphs"] == graphs and 0 < told["seconds"] < 600 and "uncompiled" not in told
    rounding = {"bfloat16": 2e-2, "second order": 1e-4}.get(name, 1e-5)
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=rounding, rtol=0)
    assert [row.keys() for row in found] == [row.keys() for row in figures]
    for row, other in zip(found, figures):
        for key in {"loss", *values_of(name)} & row.keys():
            assert row[key] == pytest.approx(other[key], abs=max(rounding, 1e-4 * abs(other[key])))


def with_batch_statistics() -> Classifier:
    """A tiny network whose patches are normalised by those of the whole batch."""
    model = tiny_vit(3)
    model.net.patch_embed.norm = nn.BatchNorm1d(24)
    transposed = lambda module, inputs: (inputs[0].transpose(1, 2),)  # noqa: E731
    model.net.patch_embed.norm.register_forward_pre_hook(transposed)
    model.net.patch_embed.norm.register_forward_hook(lambda m, i, output: output.transpose(1, 2))
    return model


def test_a_smaller_batch_of_a_network_with_batch_statistics_is_not_filled(
    root: Path,
    tmp_path: Path,
    traced: None,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = []
    for compiled in (False, True):
        made, out = with_batch_statistics(), tmp_path / str(compiled)
        runs.append(trained(root, out, "joint", compiled, made)[0])
    assert "compiled in" not in capsys.readouterr().out
    assert results_of(tmp_path / "True")["compiled"]["graphs"] == {"step": 1, "adversary": 1}
    assert not [r for r in caplog.records if r.name == "vitreous.training.graphs"]
    expected, weights = runs
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, atol=1e-5, rtol=0)
    assert "patch_embed.norm.running_mean" in expected


@pytest.mark.parametrize(("accumulation", "rows"), [(1, 4), (3, 2)])
def test_a_run_that_goes_on_with_its_smallest_batch_fills_it_too(
    accumulation: int, rows: int, root: Path, tmp_path: Path, traced: None
) -> None:
    training = {"batch_size": 4, "compile": True, "accumulation": accumulation, "trackers": []}
    recipe = build(Recipe, tiny_recipe(root, training=training))
    compiled = Trainer(recipe, tmp_path / "run", quiet=True).trained.compiled
    assert compiled is not None and compiled.rows == rows and not compiled.log.strict
    training["compile"] = "strict"
    (tmp_path / "few").mkdir()
    write_masked_set(tmp_path / "few", classes=1, per_class=4)
    recipe = build(Recipe, tiny_recipe(tmp_path / "few", training=training))
    compiled = Trainer(recipe, tmp_path / "other", quiet=True).trained.compiled
    assert compiled is not None and compiled.rows == -(-3 // accumulation) and compiled.log.strict


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": {"relevance": {}, "relevance_consistency": PREDICTION}}, "differ in"),
        ({"precision": "float16"}, "float16"),
        ({"precision": "float16", "objectives": {"gradmask": {}}}, "float16"),
    ],
)
def test_what_one_graph_cannot_hold_is_refused(
    changes: dict[str, Any], words: str, root: Path
) -> None:
    changes = dict(changes)
    options = {k: changes.pop(k) for k in OPTIONS if k in changes}
    values = tiny_recipe(root, training={"compile": True, **options}, **changes)
    with pytest.raises(VitreousError, match=rf"training.compile does not go with .*{words}"):
        build(Recipe, values)


def test_a_pass_of_any_number_of_rows_is_one_graph(traced: None) -> None:
    model = tiny_vit()
    compiled = CompiledPass(model, None, Compilation(strict=True))
    for rows in (1, 5, 1, 3):
        images = torch.rand(rows, 3, 32, 32)
        found = compiled.logits(images, rows_vary=True)
        torch.testing.assert_close(found, model(images), atol=1e-6, rtol=0)
    assert compiled.log.graphs == {"some rows": 1} and not compiled.log.eager


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_the_gradient_for_an_adversary_is_that_of_the_model(
    dtype: torch.dtype | None, traced: None
) -> None:
    model, labels, found = tiny_vit(), torch.tensor([0, 2, 1]), []
    images = torch.rand(3, 3, 32, 32)
    perturbation, loss = torch.randn_like(images) / 2, BatchLoss("cross_entropy", labels)
    compiled = CompiledPass(model, None, Compilation(strict=True))
    compiled.rows = 4
    for passes in (None, compiled):
        # The first scale overflows, and is halved until it does not.
        state = {"loss_scale": torch.tensor(2.0**30)}
        with passes_made_by(passes), torch.autocast("cpu", dtype, enabled=dtype is not None):
            found.append(image_gradient(model, images, perturbation, loss, state))
        assert (state["loss_scale"] < 2.0**30) == (dtype is not None)
    plain, made = found
    outside = (images + perturbation <= 0) | (images + perturbation >= 1)
    assert outside.any() and not made[outside].any() and made[~outside].all()
    bound = (1e-2 if dtype else 1e-5) * plain.abs().max().item()
    torch.testing.assert_close(made, plain, atol=bound, rtol=0)
    assert compiled.log.graphs == {"adversary": 1} and not compiled.log.eager


def any_size() -> Classifier:
    """A network whose images are larger than those that it was made for."""
    return load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=5,
        image_size=32,
        depth=2,
        dynamic_img_size=True,
    )


def torchvision_vit() -> Classifier:
    return load_model(torchvision.models.VisionTransformer(64, 16, 2, 2, 24, 48, num_classes=5))


def test_under_ddp_the_pass_and_the_further_ones_are_one_graph(
    traced: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    init = f"file://{tmp_path}/group"
    torch.distributed.init_process_group("gloo", init_method=init, rank=0, world_size=1)
    try:
        model = tiny_vit().train()
        masks = (torch.rand(4, 1, 32, 32) > 0.5).float()
        images, rows = torch.rand(4, 3, 32, 32), torch.arange(4)
        batch = Batch(images, rows, masks, torch.ones(4, dtype=torch.bool), rows)
        objectives: dict[str, Any] = {"relevance": Relevance(), "turned": RelevanceConsistency()}
        clean, gradients = (images + 0.02).clamp(0, 1), []
        compiled = CompiledPass(model, Relevance().maps_wanted, Compilation(strict=True))
        wrapped = DistributedDataParallel(
            compiled.module, find_unused_parameters=True, bucket_cap_mb=0.01
        )
        for made, passed in ((None, model), (compiled, wrapped), (compiled, wrapped)):
            model.zero_grad()
            torch.manual_seed(0)
            loss = compute_loss(passed, model, batch, objectives, clean=clean, compiled=made)
            loss.means.backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    finally:
        torch.distributed.destroy_process_group()
    assert compiled.log.graphs == {"step": 1} and not compiled.log.eager
    for first, second, third in zip(*gradients, strict=True):
        torch.testing.assert_close(second, first, atol=1e-6, rtol=0)
        torch.testing.assert_close(third, first, atol=1e-6, rtol=0)


def test_a_network_whose_maps_cannot_be_one_graph_is_refused(traced: None) -> None:
    model, rows = tiny_vit(), torch.arange(2)
    model.net.register_forward_hook(lambda module, inputs, out: out * float(out.isfinite().all()))
    batch = Batch(torch.rand(2, 3, 32, 32), rows, torch.ones(2, 1, 32, 32), rows >= 0, rows)
    compiled = CompiledPass(model, Relevance().maps_wanted)
    with pytest.raises(VitreousError, match="the step of this model cannot be one graph"):
        compiled(compiled.module, batch)


@pytest.mark.parametrize("make", [small_crossvit, torchvision_vit, any_size])
def test_other_networks_are_one_graph_too(make: Callable[[], Classifier], traced: None) -> None:
    model, masks = make().train(), (torch.rand(4, 1, 64, 64) > 0.5).float()
    batch = Batch(
        images=torch.rand(4, 3, 64, 64),
        labels=torch.tensor([0, 1, 2, 4]),
        masks=masks,
        has_mask=torch.ones(4, dtype=torch.bool),
        indices=torch.arange(4),
    )
    objectives: dict[str, Any] = {"classification": Classification(), "relevance": Relevance()}
    gradients = []
    wanted = Relevance().maps_wanted
    assert wanted is not None
    compiled = CompiledPass(model, wanted)
    for made in (None, compiled):
        passed = model if made is None else compiled.module
        model.zero_grad()
        compute_loss(passed, model, batch, objectives, compiled=made).means.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert counters["stats"]["unique_graphs"] == 1 and max(g.abs().max() for g in gradients[0]) > 0
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
