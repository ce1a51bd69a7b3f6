"""A benchmark of relevance methods: which map can be believed, and what it costs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vitreous.attacks import PGD
from vitreous.attribution import explain, explain_all
from vitreous.evaluation.explanation_metrics.complexity import entropy, gini
from vitreous.evaluation.explanation_metrics.faithfulness import (
    curve_mean,
    expected_changes,
    pixel_flipping,
    remove_and_debias,
    score_changes,
    unexplained,
)
from vitreous.evaluation.explanation_metrics.localization import rank_accuracy, roc_area
from vitreous.evaluation.explanation_metrics.stability import (
    largest_change,
    randomized,
    rank_correlation,
)
from vitreous.evaluation.loading import EvaluationBatch
from vitreous.evaluation.metrics import mean_interval
from vitreous.evaluation.rows import READ, item_type
from vitreous.models import Classifier
from vitreous.precision import Precision, autocast
from vitreous.results import Record

Values = Tensor | np.ndarray | float


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
        epsilon: Radius (L∞, images of [0, 1]) of the attack on the prediction.
        attack_steps: Of that attack, PGD from the image itself.
        stages: Of the cascade of random parameters.
        passes: Type of the passes over changed images of `pixel_flipping` and `road`, which no
            map is made of; the others' if None.
    """

    flips: int = 12
    squares: int = 12
    square: float = 0.25
    removed: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    draws: int = 3
    radius: float = 0.02
    epsilon: float = 1 / 255
    attack_steps: int = 10
    stages: int = 3
    passes: Precision | None = None


@dataclasses.dataclass(frozen=True)
class _Measuring:
    """All methods on one batch: what they share is computed once."""

    classifier: Classifier
    batch: EvaluationBatch
    methods: tuple[str, ...]
    how: BenchmarkSettings

    @functools.cached_property
    def logits(self) -> Tensor:
        """Of the images as they are, (B, C)."""
        with torch.no_grad():
            return self.classifier(self.batch.images).float()

    @functools.cached_property
    def target(self) -> Tensor:
        """The predicted classes (B,)."""
        return self.logits.argmax(1)

    @functools.cached_property
    def maps(self) -> dict[str, Tensor]:
        """Method → maps (B, 1, H, W) of the predicted class."""
        return self._explain(self.batch.images, self.target)

    @functools.cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Method → maps (B, H, W) in the main memory."""
        return {name: maps[:, 0].cpu().numpy() for name, maps in self.maps.items()}

    @functools.cached_property
    def truth(self) -> np.ndarray:
        """The foreground (B, H, W)."""
        assert self.batch.masks is not None
        return self.batch.masks[:, 0].cpu().numpy() > 0.5

    def _explain(self, images: Tensor, target: Tensor) -> dict[str, Tensor]:
        explained = explain_all(self.classifier, images, target, self.methods)
        return {name: e.relevance.detach().float() for name, e in explained.items()}

    def _probability(self, changed: Tensor) -> Tensor:
        with torch.no_grad():
            probabilities = self.classifier(changed).float().softmax(1)
        return probabilities.gather(1, self.target[:, None])[:, 0]

    def _passes(self) -> contextlib.AbstractContextManager[object]:
        if self.how.passes is None:
            return contextlib.nullcontext()
        return autocast(self.batch.images.device, self.how.passes)

    def pixel_flipping(self) -> Iterator[tuple[str, Values]]:
        """Mean probability of the target as the relevant pixels go."""
        for name, maps in self.maps.items():
            with self._passes():
                curve = pixel_flipping(self._probability, self.batch.images, maps, self.how.flips)
            yield name, curve_mean(curve).cpu()

    def infidelity(self) -> Iterator[tuple[str, Values]]:
        """Share of the changes that a map leaves unexplained; the passes serve all methods."""
        images, draws = self.batch.images, list(self._blackened(self.batch.images))
        change = score_changes(self._probability, images, draws)
        for name, maps in self.maps.items():
            yield name, unexplained(change, expected_changes(images, maps, draws)).cpu()

    def road(self) -> Iterator[tuple[str, Values]]:
        """How often the prediction stays, over the shares of imputed pixels."""
        images, seeds = self.batch.images, self.batch.seeds.tolist()
        for name, maps in self.maps.items():
            stays = []
            for share in self.how.removed:
                filled = remove_and_debias(images, maps, share, seeds)
                with torch.no_grad(), self._passes():
                    stays.append((self.classifier(filled).argmax(1) == self.target).cpu().numpy())
            yield name, np.stack(stays, 1).mean(1)

    def rank_accuracy(self) -> Iterator[tuple[str, Values]]:
        """Of the most relevant pixels, as many as the foreground has, the share on it."""
        yield from ((name, rank_accuracy(maps, self.truth)) for name, maps in self.values.items())

    def roc_area(self) -> Iterator[tuple[str, Values]]:
        """Area under the ROC curve of pixels as foreground."""
        yield from ((name, roc_area(maps, self.truth)) for name, maps in self.values.items())

    def gini(self) -> Iterator[tuple[str, Values]]:
        """How few pixels a map is about."""
        yield from ((name, gini(maps)) for name, maps in self.values.items())

    def entropy(self) -> Iterator[tuple[str, Values]]:
        """How many pixels a map is about."""
        yield from ((name, entropy(maps)) for name, maps in self.values.items())

    def max_sensitivity(self) -> Iterator[tuple[str, Values]]:
        """Largest change of a map under noise."""
        changed = [self._explain(noisy, self.target) for noisy in self._noisy(self.batch.images)]
        for name, maps in self.maps.items():
            yield name, largest_change(maps, [other[name] for other in changed]).cpu()

    def attacked_correlation(self) -> Iterator[tuple[str, Values]]:
        """Correlation with the map of the same class after an attack on the prediction."""
        how = self.how
        attack = PGD(epsilon=how.epsilon, steps=how.attack_steps, random_start=False)
        attacked = attack(self.classifier, self.batch.images, self.target)
        for name, maps in self._explain(attacked, self.target).items():
            yield name, rank_correlation(self.values[name], maps[:, 0].cpu().numpy())

    def parameter_randomization(self) -> Iterator[tuple[str, Values]]:
        """Mean correlation with the maps of a model that is more and more random."""
        own, correlations = self.values, {name: [] for name in self.methods}
        with randomized(self.classifier.net, self.how.stages) as cascade:
            for _ in cascade:
                for name, maps in self._explain(self.batch.images, self.target).items():
                    found = rank_correlation(own[name], maps[:, 0].cpu().numpy())
                    correlations[name].append(found)
        for name, found in correlations.items():
            defined = np.isfinite(found)
            total = np.where(defined, found, 0).sum(0)
            yield name, np.where(defined.any(0), total / np.maximum(defined.sum(0), 1), np.nan)

    def random_logit(self) -> Iterator[tuple[str, Values]]:
        """Correlation with the map of another class."""
        other = self._explain(self.batch.images, self._other(self.target, self.logits.shape[1]))
        for name, maps in other.items():
            yield name, rank_correlation(self.values[name], maps[:, 0].cpu().numpy())

    def seconds_per_image(self) -> Iterator[tuple[str, Values]]:
        """What a method costs alone: the processor's time on a CPU, else the clock's."""
        images = self.batch.images
        clock = time.process_time if images.device.type == "cpu" else time.perf_counter
        for name in self.methods:
            started = clock()
            explain(self.classifier, images, self.target, name).relevance.cpu()
            yield name, (clock() - started) / len(images)

    def _blackened(self, images: Tensor) -> Iterator[Tensor]:
        """Images with a black square at random, draws that follow from each image's seed."""
        height, width = images.shape[-2:]
        sides = [max(1, round(self.how.square * side)) for side in (height, width)]
        for number in range(self.how.squares):
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
        radius, shape = self.how.radius, tuple(images.shape[1:])
        for number in range(self.how.draws):
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


_MEASURES: dict[str, Callable[[_Measuring], Iterator[tuple[str, Values]]]] = {
    "pixel_flipping": _Measuring.pixel_flipping,
    "infidelity": _Measuring.infidelity,
    "road": _Measuring.road,
    "rank_accuracy": _Measuring.rank_accuracy,
    "roc_area": _Measuring.roc_area,
    "max_sensitivity": _Measuring.max_sensitivity,
    "attacked_correlation": _Measuring.attacked_correlation,
    "parameter_randomization": _Measuring.parameter_randomization,
    "random_logit": _Measuring.random_logit,
    "gini": _Measuring.gini,
    "entropy": _Measuring.entropy,
    "seconds_per_image": _Measuring.seconds_per_image,
}
METRICS = tuple(_MEASURES)


@dataclasses.dataclass(frozen=True)
class MethodBenchmark:
    """Measure maps of the predicted class by several methods.

    Attributes:
        dataset: How results call what is explained.
        methods: Names of relevance methods, all of which hold for the model.
        measuring: How much of each metric.
        metrics: Which of `METRICS`.
    """

    dataset: str
    methods: tuple[str, ...]
    measuring: BenchmarkSettings = dataclasses.field(default_factory=BenchmarkSettings)
    metrics: tuple[str, ...] = METRICS

    @property
    def name(self) -> str:
        """The dataset."""
        return f"{self.dataset}-benchmark"

    def settings(self) -> dict[str, object]:
        """Methods, and how much is measured."""
        return dataclasses.asdict(self)

    def row_type(self) -> np.dtype:
        """Under each method's name a float64 for each metric; NaN where undefined."""
        kind = np.dtype([(metric, "f8") for metric in self.metrics])
        return item_type([(method, kind) for method in self.methods])

    def rows(self, classifier: Classifier, batch: EvaluationBatch) -> np.ndarray:
        """Measure all methods on a batch."""
        rows = self.unread(len(batch))
        measuring = _Measuring(classifier, batch, self.methods, self.measuring)
        for metric in self.metrics:
            for method, values in _MEASURES[metric](measuring):
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
            for metric in self.metrics
            if np.isfinite(rows[method][metric]).any()
        ]

    def _record(self, method: str, metric: str, values: np.ndarray) -> Record:
        known = values[np.isfinite(values)]
        how = {"method": method, **_settings_of(metric, self.measuring)}
        value, interval = float(known.mean()), mean_interval(known)
        record = Record("explanation", self.dataset, metric, value, len(known), interval, how)
        other = self.measuring.passes if metric in ("pixel_flipping", "road") else None
        return record.made_in(other or "float32")


def _settings_of(metric: str, measuring: BenchmarkSettings) -> dict[str, object]:
    """Settings that a metric depends on."""
    names = {
        "pixel_flipping": ("flips",),
        "infidelity": ("squares", "square"),
        "road": ("removed",),
        "max_sensitivity": ("draws", "radius"),
        "attacked_correlation": ("epsilon", "attack_steps"),
        "parameter_randomization": ("stages",),
    }
    return {name: getattr(measuring, name) for name in names.get(metric, ())}
