"""The benchmark of relevance methods: every metric of every method, on a masked set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from helpers import write_squares
from portable.refusals import NoDoublePrecision
from vitreous.attribution import relevance
from vitreous.data.readers import read_dataset
from vitreous.evaluation.evaluators.method_benchmark import METRICS, MethodBenchmark
from vitreous.evaluation.explanation_metrics.localization import rank_accuracy
from vitreous.evaluation.run import EvaluationFolders, evaluate
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import MaskedSettings, Suite, combine_suites, load_suite
from vitreous.models import Classifier, load_model
from vitreous.results import Record

METHODS = ("gradient_attention", "rollout", "input_gradient")


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Path, dict[tuple[str, str], Record]]:
    root = write_squares(tmp_path_factory.mktemp("squares"), 6)
    torch.manual_seed(1)
    tiny = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    classifier = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, image_size=32, **tiny
    )
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    masked = MaskedSettings("squares", root / "images", root / "masks")
    suite = Suite(masked=(masked,), methods=METHODS, removal=False, benchmark=True)
    streaming = StreamSettings(batch_size=16, progress=False)
    with NoDoublePrecision():  # Apple's GPUs have none
        folders = EvaluationFolders(None, root / "out")
        done = evaluate(classifier, suite, folders, streaming=streaming)
    assert all(torch.equal(v, before[n]) for n, v in classifier.state_dict().items())
    dataset = read_dataset(root / "images", masks=root / "masks")
    images = [torch.from_numpy(np.array(dataset[i].image)).permute(2, 0, 1) for i in range(6)]
    maps = relevance(classifier, torch.stack(images) / 255, method="input_gradient")[:, 0]
    masks = np.stack([dataset[i].mask[0].numpy() > 0.5 for i in range(6)])
    expected = rank_accuracy(maps.numpy(), masks).mean()
    records = {(r.settings["method"], r.metric): r for r in done.records}
    assert records["input_gradient", "rank_accuracy"].value == pytest.approx(expected, abs=1e-4)
    attacked = fgsm_steps(classifier, torch.stack(images) / 255)
    target = classifier(torch.stack(images) / 255).argmax(1)
    other = relevance(classifier, attacked, target, method="input_gradient")[:, 0]
    pairs = zip(maps.flatten(1).numpy(), other.flatten(1).numpy())
    expected = np.mean([spearmanr(a, b).statistic for a, b in pairs])
    found = records["input_gradient", "attacked_correlation"]
    assert found.value == pytest.approx(expected, abs=1e-3) and expected < 0.999
    assert found.settings["epsilon"] == 1 / 255
    return root, records


def fgsm_steps(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Ten steps of the gradient's sign away from the prediction, by hand; none was fooled."""
    target, changed = classifier(images).argmax(1), images.clone()
    for _ in range(10):
        changed.requires_grad_()
        loss = functional.cross_entropy(classifier(changed), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, changed)
        stepped = changed.detach() + 2.5 / 10 / 255 * gradient.sign()
        changed = stepped.clamp(images - 1 / 255, images + 1 / 255).clamp(0, 1)
    assert torch.equal(classifier(changed).argmax(1), target)
    return changed


def test_every_method_has_every_metric_with_its_interval_and_cost(measured) -> None:
    _, records = measured
    for method in METHODS:
        for metric in METRICS:
            record = records[method, metric]
            assert record.n == 6 and record.ci95[0] <= record.value <= record.ci95[1]
        assert 0 < records[method, "infidelity"].value <= 1
        assert records[method, "seconds_per_image"].value > 0
    assert records["rollout", "foreground_share"].n == 6  # the measures of before are there too


def test_a_method_that_does_not_look_at_the_class_is_found_out(measured) -> None:
    _, records = measured
    assert records["rollout", "random_logit"].value == pytest.approx(1)
    assert records["gradient_attention", "random_logit"].value < 0.95
    assert records["rollout", "parameter_randomization"].value < 0.99


def test_what_is_measured_does_not_depend_on_the_batch(measured) -> None:
    from vitreous.evaluation.evaluators.explanation import ExplanationSettings
    from vitreous.evaluation.stream import stream

    root, records = measured
    torch.manual_seed(1)
    tiny = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    classifier = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, image_size=32, **tiny
    )
    dataset = read_dataset(root / "images", masks=root / "masks")
    evaluator = MethodBenchmark("squares", METHODS)
    rows = stream(
        classifier,
        dataset,
        evaluator,
        root / "alone",
        view=ExplanationSettings().view(classifier.preprocessing),
        streaming=StreamSettings(batch_size=1, progress=False),
    ).rows
    for record in evaluator.records(rows):
        known = records[record.settings["method"], record.metric]
        if record.metric not in ("seconds_per_image", "road"):
            assert record.value == pytest.approx(known.value, rel=2e-2, abs=1e-2), record.metric


def test_the_suite_of_explanations_is_the_benchmark_of_nine_methods() -> None:
    suite = load_suite("explanations")
    assert suite.benchmark and len(suite.methods) == 9
    assert combine_suites([suite, Suite()]).benchmark
