"""Score layers of a model against recordings, and choose one a region."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from vitreous.brain.activations import Extraction, extract
from vitreous.brain.layers import PIXELS
from vitreous.brain.measure import Measure
from vitreous.brain.recordings import Recording
from vitreous.brain.reduce import fit_components
from vitreous.brain.score import Score
from vitreous.brain.splits import Groups
from vitreous.brain.stimuli import Stimuli
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.progress import ProgressBar


@dataclasses.dataclass(frozen=True)
class Reduction:
    """Principal components to reduce layers to, as Brain-Score does to choose them.

    Attributes:
        stimuli: Images they are fitted on: Brain-Score's are 1000 of ImageNet's validation set.
        components: How many.
    """

    stimuli: Stimuli
    components: int = 1000


@dataclasses.dataclass(frozen=True)
class LayerScore:
    """The score of one layer for one region.

    Attributes:
        layer: Its name.
        depth: Its place among the layers scored, from 0 to 1; None for `pixels`, which are no
            layer but what every model starts from.
        score: What the metric gave.

    Examples:
        >>> layer = LayerScore("blocks.3", 0.5, Score(0.4, 0.01, np.array([0.39, 0.41])))
        >>> layer.score.score
        0.4
    """

    layer: str
    depth: float | None
    score: Score


@dataclasses.dataclass(frozen=True)
class RegionScore:
    """The score that is reported of one region.

    Attributes:
        region: Its name.
        layer: The layer that stands for it.
        score: Of that layer, all units.
        interval: 95 % interval of the score, see `Measure.interval`.
        ceiling: Internal consistency of the region's neuroids, or None without repetitions.
        neuroids: How many there are.

    Examples:
        >>> score = Score(0.4, 0.01, np.array([0.39, 0.41]))
        >>> region = RegionScore("V4", "blocks.6", score, (0.3, 0.5), ceiling=None, neuroids=168)
        >>> region.interval
        (0.3, 0.5)
    """

    region: str
    layer: str
    score: Score
    interval: tuple[float, float] | None
    ceiling: Score | None
    neuroids: int


def score_layers(
    classifier: Classifier,
    recording: Recording,
    layers: Sequence[str],
    cache: str | os.PathLike[str],
    *,
    measure: Measure | None = None,
    extraction: Extraction | None = None,
    regions: Sequence[str] = (),
    reduction: Reduction | None = None,
) -> dict[str, list[LayerScore]]:
    """Score every layer for every region; one Gram matrix a layer serves all regions.

    Args:
        classifier: The model.
        recording: Responses and images.
        layers: Names or patterns, see `find_layers`.
        cache: Folder of the activations.
        measure: Metric and its settings; PLS with 25 components by default.
        extraction: How activations are taken.
        regions: Which regions; all of the recording by default.
        reduction: Reduce every layer to principal components first; only for the choice of
            layers, the final score takes all units.

    Returns:
        Region → scores in the model's order of layers.

    Examples:
        >>> import tempfile, torch, vitreous
        >>> from vitreous.brain.recordings import make_assembly
        >>> from vitreous.data.dataset import Dataset
        >>> from vitreous.data.stores import ArrayImages
        >>> pixels = torch.randint(256, (12, 32, 32, 3), dtype=torch.uint8)
        >>> names = [f"{i:02}" for i in range(12)]
        >>> stimuli = Stimuli(Dataset(ArrayImages(pixels, names), np.full(12, -1)))
        >>> responses = np.random.default_rng(0).normal(size=(12, 4))
        >>> recording = Recording("mine", make_assembly(responses, names), stimuli)
        >>> settings = {"pretrained": False, "image_size": 32, "depth": 2}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> cache, measure = tempfile.mkdtemp(), Measure(metric="cka")
        >>> scores = score_layers(model, recording, ["blocks.*"], cache, measure=measure)
        >>> [layer.layer for layer in scores["mine"]]
        ['blocks.0', 'blocks.1']
    """
    parts = {name: recording.select(name) for name in regions or recording.regions}
    responses = {name: part.responses() for name, part in parts.items()}
    activations = extract(classifier, recording.images(), layers, cache, extraction)
    if reduction is not None:
        fitting = extract(classifier, reduction.stimuli, layers, cache, extraction)
        activations = {
            layer: _reduced(values, fitting[layer], reduction.components)
            for layer, values in activations.items()
        }
    return score_features(activations, responses, recording.groups(), measure)


def score_features(
    activations: Mapping[str, np.ndarray],
    responses: Mapping[str, np.ndarray],
    groups: Groups = None,
    measure: Measure | None = None,
) -> dict[str, list[LayerScore]]:
    """Score named features (images × units) for the responses (images × neuroids) of regions."""
    measure = measure or Measure()
    scores: dict[str, list[LayerScore]] = {region: [] for region in responses}
    depths = layer_depths(list(activations))
    bar = ProgressBar(activations.items(), desc=f"{measure.metric} of {len(activations)} layers")
    for layer, features in bar:
        kernel = measure.kernel(features)
        for region, values in responses.items():
            score = measure(features, values, groups, kernel)
            scores[region].append(LayerScore(layer, depths[layer], score))
            bar.set_postfix_str(f"{region} {layer} {score.score:.3f}")
    return scores


def layer_depths(layers: Sequence[str]) -> dict[str, float | None]:
    """The place of each layer from 0 (the first) to 1 (the last); None for the pixels."""
    inner = [layer for layer in layers if layer != PIXELS]
    last = max(1, len(inner) - 1)
    return {layer: inner.index(layer) / last if layer in inner else None for layer in layers}


def choose_layers(scores: Mapping[str, Sequence[LayerScore]]) -> dict[str, str]:
    """The layer of the highest score for each region.

    Examples:
        >>> low, high = (Score(v, 0.0, np.array([v])) for v in (0.2, 0.4))
        >>> choose_layers({"V4": [LayerScore("early", 0.0, low), LayerScore("late", 1.0, high)]})
        {'V4': 'late'}
    """
    chosen = {}
    for region, rows in scores.items():
        known = [row for row in rows if np.isfinite(row.score.score)]
        if not known:
            raise VitreousError(f"no layer has a score for {region}: every neuroid is constant")
        chosen[region] = max(known, key=lambda row: row.score.score).layer
    return chosen


def score_regions(
    classifier: Classifier,
    recording: Recording,
    layers: Mapping[str, str],
    cache: str | os.PathLike[str],
    *,
    measure: Measure | None = None,
    extraction: Extraction | None = None,
) -> list[RegionScore]:
    """Score one layer a region, with interval and noise ceiling; what is reported.

    Args:
        classifier: The model.
        recording: Responses and images.
        layers: Region → layer, one name each.
        cache: Folder of the activations.
        measure: Metric and its settings; PLS with 25 components by default.
        extraction: How activations are taken.

    Raises:
        VitreousError: If a region was not recorded, or a name matches several layers.

    Examples:
        >>> import tempfile, torch, vitreous
        >>> from vitreous.brain.recordings import make_assembly
        >>> from vitreous.data.dataset import Dataset
        >>> from vitreous.data.stores import ArrayImages
        >>> pixels = torch.randint(256, (12, 32, 32, 3), dtype=torch.uint8)
        >>> names = [f"{i:02}" for i in range(12)]
        >>> stimuli = Stimuli(Dataset(ArrayImages(pixels, names), np.full(12, -1)))
        >>> responses = np.random.default_rng(0).normal(size=(12, 4))
        >>> recording = Recording("mine", make_assembly(responses, names), stimuli)
        >>> settings = {"pretrained": False, "image_size": 32, "depth": 2}
        >>> model = vitreous.load_model("vit_tiny_patch16_224", **settings)
        >>> cache, measure = tempfile.mkdtemp(), Measure(metric="cka")
        >>> scores = score_regions(model, recording, {"mine": "blocks.1"}, cache, measure=measure)
        >>> scores[0].layer, scores[0].neuroids, scores[0].ceiling
        ('blocks.1', 4, None)
    """
    measure = measure or Measure()
    rows = []
    for region, asked in layers.items():
        part = recording.select(region)
        taken = extract(classifier, part.images(), [asked], cache, extraction)
        if len(taken) > 1:
            names = ", ".join(list(taken)[:4])
            raise VitreousError(
                f"'{asked}' matches {len(taken)} layers ({names}, …); name one, or let "
                "`vitreous brain layers` choose"
            )
        ((layer, features),) = taken.items()
        responses = part.responses()
        score = measure(features, responses, part.groups(), measure.kernel(features))
        interval = measure.interval(features, responses, score)
        neuroids = responses.shape[1]
        rows.append(RegionScore(region, layer, score, interval, part.ceiling(), neuroids))
    return rows


def _reduced(values: np.ndarray, fitting: np.ndarray, components: int) -> np.ndarray:
    axes = fit_components(fitting, components)
    return values if axes is None else axes.project(values)
