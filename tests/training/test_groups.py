"""Groups that fail: GroupDRO's weights by hand, DFR as logistic regression, JTT by count."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from helpers import TINY_MODEL, tiny_vit, write_masked_set
from vitreous.cli import main
from vitreous.config import merge
from vitreous.data.batch import Batch
from vitreous.data.readers import read_dataset
from vitreous.errors import InterruptedRun, VitreousError
from vitreous.models import load_model
from vitreous.training import Recipe, load_recipe, train
from vitreous.training.objectives.group_dro import WEIGHTS, GroupDRO, require_one_process
from vitreous.training.settings import ModelSettings
from vitreous.training.step import compute_loss

SMALL: dict[str, Any] = {
    "model": TINY_MODEL,
    "transforms": {
        "train": {"resize": {"size": 32}, "random_crop": False, "center_crop": {"size": 32}},
        "validation": {"resize": {"size": 32}, "center_crop": {"size": 32}},
    },
    "training": {"trackers": [], "samples": 0},
}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of 24 images of three classes, each in two groups: five in the first, three more."""
    write_masked_set(tmp_path, per_class=8, size=32)
    file = tmp_path / "list.csv"
    rows = [
        (f"images/class_{label}/{i}.png", f"class_{label}", f"{label}{'ab'[i > 4]}")
        for label in range(3)
        for i in range(8)
    ]
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("path", "label", "group"), *rows])
    return file


def recipe(name: str, source: Path, *, wrapped: bool, **overrides: Any) -> Recipe:
    data = {"images": str(source), "validation_share": 0.0}
    values = merge(SMALL, {"data": {"source": data} if wrapped else data})
    return load_recipe(name, merge(values, overrides))


def make_batch(groups: list[int]) -> Batch:
    count = len(groups)
    nothing = torch.zeros(count, 1, 32, 32)
    rows = torch.arange(count)
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(
        images, rows % 3, nothing, rows < 0, rows, groups=torch.tensor(groups, dtype=torch.int64)
    )


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_weights_and_loss_of_group_dro_are_those_worked_out_by_hand(adjustment):
    model, eta = tiny_vit(3), 0.7
    objective = {"group_dro": GroupDRO(step_size=eta, adjustment=adjustment)}
    memory: dict[str, torch.Tensor] = {}
    q = [0.25] * 4
    for groups in ([0, 0, 1, 3, 3, 3], [2, 1, 1, 0]):
        batch = make_batch(groups)
        sizes = [40, 10, 4, 1]
        probabilities = F.softmax(model(batch.images).detach(), 1).tolist()
        losses = []
        for group in range(4):
            own = [
                -math.log(probabilities[i][int(batch.labels[i])])
                for i, g in enumerate(groups)
                if g == group
            ]
            losses.append(sum(own) / max(len(own), 1) + adjustment / math.sqrt(sizes[group]))
        q = [weight * math.exp(eta * loss) for weight, loss in zip(q, losses)]
        q = [weight / sum(q) for weight in q]
        found = compute_loss(
            model, model, batch, objective, memory=memory, group_sizes=torch.tensor(sizes)
        )
        assert memory[WEIGHTS].tolist() == pytest.approx(q, rel=1e-5)
        expected = sum(weight * loss for weight, loss in zip(q, losses))
        assert float(found.figures["loss"]) == pytest.approx(expected, rel=1e-5)
        assert float(found.figures["group_dro/worst_loss"]) == pytest.approx(max(losses), rel=1e-5)
    # The weights are constants of the step: the gradient is that of the weighted group means.
    found.means.backward()
    gradient = model.net.head.bias.grad.clone()
    model.zero_grad()
    rows = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
    (q[0] * rows[3] + q[1] * (rows[1] + rows[2]) / 2 + q[2] * rows[0]).backward()
    torch.testing.assert_close(gradient, model.net.head.bias.grad)


def test_validation_sees_the_plain_cross_entropy_and_remembers_nothing():
    model, batch = tiny_vit(3), make_batch([0, 1, 1])
    memory: dict[str, torch.Tensor] = {}
    found = compute_loss(model, model, batch, {"group_dro": GroupDRO()}, memory=memory)
    expected = F.cross_entropy(model(batch.images), batch.labels)
    assert float(found.figures["loss"]) == pytest.approx(float(expected.detach()))
    assert not memory


def test_the_weights_of_groups_outlive_a_stop(listed, tmp_path):
    made = recipe("groups/group_dro", listed, wrapped=True, training={"batch_size": 6})
    train(made, tmp_path / "whole", quiet=True)

    def stop(epoch: int, figures: object) -> None:
        raise InterruptedRun("enough")

    with pytest.raises(InterruptedRun):
        train(made, tmp_path / "parts", quiet=True, after_epoch=stop)
    train(made, tmp_path / "parts", quiet=True)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True)
        for name in ("whole", "parts")
    )
    weights = whole["memory"][WEIGHTS]
    assert len(weights) == 6 and float(weights.sum()) == pytest.approx(1)
    assert float(weights.max() - weights.min()) > 1e-3
    assert torch.equal(weights, parts["memory"][WEIGHTS])
    assert all(torch.equal(v, parts["model"][k]) for k, v in whole["model"].items())
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    # Five images in the largest group, six groups, six images a step, two epochs.
    assert sum(row["split"] == "train" for row in steps) == 10


def test_group_dro_says_what_it_needs(listed, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("path,label\n" + "images/class_0/0.png,0\nimages/class_1/1.png,1\n")
    plain = {"objectives": {"group_dro": {}, "classification": False}}
    with pytest.raises(VitreousError, match="objective group_dro needs the group of every"):
        train(recipe("groups/plain", bare, wrapped=False, **plain), tmp_path / "run")
    with pytest.raises(VitreousError, match=r"set training\.accumulation 1"):
        recipe("groups/group_dro", listed, wrapped=True, training={"accumulation": 2})
    with pytest.raises(VitreousError, match="train in one process, not 4"):
        require_one_process(4)
    require_one_process(1)


def test_last_layer_retraining_is_logistic_regression_on_the_balanced_set(listed, tmp_path):
    main(["train", "groups/plain", *options(listed, wrapped=False), "--out", f"{tmp_path}/plain"])
    decay = 0.5
    overrides: dict[str, Any] = {
        "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.5, "weight_decay": decay},
        "schedule": {"name": "constant"},
        "training": {"epochs": 40, "batch_size": 18},
    }
    made = recipe("groups/dfr", listed, wrapped=True, **overrides)
    made = dataclasses.replace(made, model=ModelSettings(str(tmp_path / "plain")))
    train(made, tmp_path / "dfr", quiet=True)
    before, after = load_model(str(tmp_path / "plain")), load_model(str(tmp_path / "dfr"))
    old, new = before.net.state_dict(), after.net.state_dict()
    assert {k for k in old if not torch.equal(old[k], new[k])} == {"head.weight", "head.bias"}
    chosen = made.data.load(made.training.seed).train
    assert len(chosen) == 18 and set(np.bincount(chosen.groups)) == {3}
    features = embed(before, chosen)
    # The bias is decayed as the weights are: a column of ones in place of an intercept.
    columns = np.concatenate([features, np.ones((18, 1))], 1)
    fitted = LogisticRegression(C=1 / (18 * decay), fit_intercept=False, tol=1e-8, max_iter=10_000)
    fitted.fit(columns, chosen.labels)
    found = torch.cat([new["head.weight"], new["head.bias"][:, None]], 1).numpy()
    np.testing.assert_allclose(found, fitted.coef_, atol=1e-4 * np.abs(fitted.coef_).max())


def embed(model: Any, data: Any) -> np.ndarray:
    """Features (N, D) that the head reads."""
    images = torch.stack(
        [torch.from_numpy(np.array(data[i].image)).permute(2, 0, 1) / 255 for i in range(len(data))]
    )
    with torch.no_grad():
        tokens = model.net.forward_features((images - model.mean) / model.std)
        return model.net.forward_head(tokens, pre_logits=True).numpy()


def options(listed: Path, *, wrapped: bool) -> list[str]:
    """What makes a recipe small, as words of the command line."""
    source = "--data.source" if wrapped else "--data"
    shown = ("--transforms.train.resize.size", "--transforms.validation.resize.size")
    return [
        *("--model.name", "vit_tiny_patch16_224", "--model.pretrained", "false"),
        *("--model.image-size", "32", "--model.options.depth", "1", "--quiet"),
        *("--model.options.embed-dim", "24", "--model.options.patch-size", "8"),
        *(f"{source}.images", str(listed), f"{source}.validation-share", "0"),
        *(word for name in shown for word in (name, "32")),
        *("--transforms.train.random-crop.size", "32"),
        *("--transforms.validation.center-crop.size", "32"),
        *("--training.epochs", "1", "--training.trackers", "[]", "--training.samples", "0"),
    ]


def test_the_second_stage_of_jtt_shows_the_errors_of_the_first(listed, tmp_path):
    first = tmp_path / "first"
    main(["train", "groups/plain", *options(listed, wrapped=False), "--out", str(first)])
    main(["evaluate", str(first), "--data", str(listed), "--quiet", "--samples", "0"])
    (table,) = first.rglob("predictions.csv")
    shown = read_dataset(listed)
    net = load_model(str(first))
    images = torch.stack(
        [torch.from_numpy(np.array(shown[i].image)).permute(2, 0, 1) for i in range(24)]
    )
    with torch.no_grad():
        wrong = int((net(images / 255).argmax(1).numpy() != shown.labels).sum())
    assert 0 < wrong < 24
    second = ["--data.predictions", str(table), "--data.factor", "5"]
    out = tmp_path / "second"
    main(["train", "groups/jtt", *options(listed, wrapped=True), *second, "--out", str(out)])
    about = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert about["extra"]["split"]["errors"] == wrong
    assert about["context"]["train_images"] == 24 + 4 * wrong
