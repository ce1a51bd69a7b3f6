"""A benchmark of relevance methods: which map can be believed, and what it costs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vitreous.attribution import explain
from vitreous.evaluation.explanation_metrics.complexity import entropy, gini
from vitreous.evaluation.explanation_metrics.faithfulness import (
    curve_mean,
    infidelity,
    pixel_flipping,
    remove_and_debias,
)
from vitreous.evaluation.explanation_metrics.localization import rank_accuracy, roc_area
from vitreous.evaluation.explanation_metrics.stability import (
    max_sensitivity,
    randomized,
    rank_correlation,
)
from vitreous.evaluation.loading import EvaluationBatch
from vitreous.evaluation.metrics import mean_interval
from vitreous.evaluation.rows import READ, item_type
from vitreous.models import Classifier
from vitreous.results import Record

METRICS = (
    "pixel_flipping",
    "infidelity",
    "road",
    "rank_accuracy",
    "roc_area",
    "max_sensitivity",
    "parameter_randomization",
    "random_logit",
    "gini",
    "entropy",
    "seconds_per_image",
)


@dataclasses.dataclass(frozen=True)
class BenchmarkSettings:
    """How much of each metric is measured.

    Attributes:
        flips: Steps in which all pixels go.
        squares: Squares that are blackened, one at a time, for infidelity.
        square: Their side, as a share of the image's.
        removed: Shares of the pixels that ROAD imputes.
        draws: Of noise, for max-sensitivity.
        radius: Of that noise, in images of [0, 1].
        stages: Of the cascade of random parameters.
    """

    flips: int = 12
    squares: int = 12
    square: float = 0.25
    removed: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    draws: int = 3
    radius: float = 0.02
    stages: int = 3


@dataclasses.dataclass(frozen=True)
class MethodBenchmark:
    """Measure maps of the predicted class by several methods.

    Attributes:
        dataset: How results call what is explained.
        methods: Names of relevance methods, all of which hold for the model.
        measuring: How much of each metric.
    """

    dataset: str
    methods: tuple[str, ...]
    measuring: BenchmarkSettings = dataclasses.field(default_factory=BenchmarkSettings)

    @property
    def name(self) -> str:
        """The dataset."""
        return f"{self.dataset}-benchmark"

    def settings(self) -> dict[str, object]:
        """Methods, and how much is measured."""
        return dataclasses.asdict(self)

    def row_type(self) -> np.dtype:
        """Under each method's name a float64 for each of `METRICS`; NaN where undefined."""
        kind = np.dtype([(metric, "f8") for metric in METRICS])
        return item_type([(method, kind) for method in self.methods])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Measure all methods on a batch."""
        rows = self.unread(len(batch))
        for method in self.methods:
            for metric, values in _Measuring(classifier, batch, method, self.measuring).all():
                rows[method][metric] = np.asarray(values, dtype=np.float64)
        return rows

    def unread(self, count: int) -> np.ndarray:
        """Empty rows; they count for nothing."""
        return np.zeros(count, self.row_type())

    def records(self, rows: np.ndarray) -> list[Record]:
        """A record of each method and metric: the mean over images, with a bootstrap interval."""
        rows = rows[rows["status"] == READ]
        return [
            self._record(method, metric, rows[method][metric])
            for method in self.methods
            for metric in METRICS
            if np.isfinite(rows[method][metric]).any()
        ]

    def _record(self, method: str, metric: str, values: np.ndarray) -> Record:
        known = values[np.isfinite(values)]
        how = {"method": method, **_settings_of(metric, self.measuring)}
        value, interval = float(known.mean()), mean_interval(known)
        return Record("explanation", self.dataset, metric, value, len(known), interval, how)


def _settings_of(metric: str, measuring: BenchmarkSettings) -> dict[str, object]:
    """Settings that a metric depends on."""
    names = {
        "pixel_flipping": ("flips",),
        "infidelity": ("squares", "square"),
        "road": ("removed",),
        "max_sensitivity": ("draws", "radius"),
        "parameter_randomization": ("stages",),
    }
    return {name: getattr(measuring, name) for name in names.get(metric, ())}


@dataclasses.dataclass(frozen=True)
class _Measuring:
    """One method on one batch."""

    classifier: Classifier
    batch: EvaluationBatch
    method: str
    measuring: BenchmarkSettings

    def all(self) -> Iterator[tuple[str, Tensor | np.ndarray | float]]:
        """Each metric and its values (B,)."""
        images, how = self.batch.images, self.measuring
        with torch.no_grad():
            logits = self.classifier(images).float()
        target = logits.argmax(1)
        started = time.perf_counter()
        maps = self._maps(images, target)
        yield "seconds_per_image", (time.perf_counter() - started) / len(images)

        def probability(changed: Tensor) -> Tensor:
            with torch.no_grad():
                probabilities = self.classifier(changed).float().softmax(1)
            return probabilities.gather(1, target[:, None])[:, 0]

        curve = pixel_flipping(probability, images, maps, how.flips)
        yield "pixel_flipping", curve_mean(curve).cpu()
        draws = list(self._blackened(images))
        yield "infidelity", infidelity(probability, images, maps, draws, scaled=True).cpu()
        yield "road", self._debiased(maps, target)
        yield from self._pixels(maps)
        noisy = list(self._noisy(images))
        changed = max_sensitivity(lambda x: self._maps(x, target), maps, noisy)
        yield "max_sensitivity", changed.cpu()
        own = maps[:, 0].cpu().numpy()
        yield "parameter_randomization", self._cascade(own, target)
        other = self._maps(images, self._other(target, logits.shape[1]))
        yield "random_logit", rank_correlation(own, other[:, 0].cpu().numpy())

    def _maps(self, images: Tensor, target: Tensor) -> Tensor:
        return explain(self.classifier, images, target, self.method).relevance.detach().float()

    def _pixels(self, maps: Tensor) -> Iterator[tuple[str, np.ndarray]]:
        """Metrics of the map alone, or of map and mask."""
        assert self.batch.masks is not None
        values, truth = maps[:, 0].cpu().numpy(), self.batch.masks[:, 0].cpu().numpy() > 0.5
        yield "rank_accuracy", rank_accuracy(values, truth)
        yield "roc_area", roc_area(values, truth)
        yield "gini", gini(values)
        yield "entropy", entropy(values)

    def _debiased(self, maps: Tensor, target: Tensor) -> np.ndarray:
        """How often the prediction stays, over the shares of imputed pixels."""
        stays, images = [], self.batch.images
        for share in self.measuring.removed:
            filled = remove_and_debias(images, maps, share, self.batch.seeds.tolist())
            with torch.no_grad():
                stays.append((self.classifier(filled).argmax(1) == target).double().cpu())
        return torch.stack(stays, 1).mean(1).numpy()

    def _cascade(self, own: np.ndarray, target: Tensor) -> np.ndarray:
        """Mean correlation with the maps of a model that is more and more random."""
        with randomized(self.classifier.net, self.measuring.stages) as cascade:
            correlations = [
                rank_correlation(own, self._maps(self.batch.images, target)[:, 0].cpu().numpy())
                for _ in cascade
            ]
        defined = np.isfinite(correlations)
        total = np.where(defined, correlations, 0).sum(0)
        return np.where(defined.any(0), total / np.maximum(defined.sum(0), 1), np.nan)

    def _blackened(self, images: Tensor) -> Iterator[Tensor]:
        """Images with a black square at random, draws that follow from each image's seed."""
        height, width = images.shape[-2:]
        sides = [max(1, round(self.measuring.square * side)) for side in (height, width)]
        for number in range(self.measuring.squares):
            changed = images.clone()
            for row, seed in enumerate(self.batch.seeds.tolist()):
                random = np.random.default_rng([seed, number])
                top, left = (
                    int(random.integers(full - side + 1))
                    for full, side in zip((height, width), sides)
                )
                changed[row, :, top : top + sides[0], left : left + sides[1]] = 0
            yield changed

    def _noisy(self, images: Tensor) -> Iterator[Tensor]:
        """Images with uniform noise, draws that follow from each image's seed."""
        radius, shape = self.measuring.radius, tuple(images.shape[1:])
        for number in range(self.measuring.draws):
            noise = [
                np.random.default_rng([seed, number, 1]).uniform(-radius, radius, shape)
                for seed in self.batch.seeds.tolist()
            ]
            yield (images + torch.from_numpy(np.stack(noise)).to(images)).clamp(0, 1)

    def _other(self, target: Tensor, classes: int) -> Tensor:
        """Another class for each image, at random."""
        seeds = self.batch.seeds.tolist()
        steps = [1 + np.random.default_rng([s, 2]).integers(max(classes - 1, 1)) for s in seeds]
        return (target + torch.tensor(steps, device=target.device)) % classes
