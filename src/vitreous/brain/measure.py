"""Which metric compares features with responses, with all its settings as one value."""

from __future__ import annotations

import dataclasses

import numpy as np

from vitreous.brain.gram import Kernel, blas_threads
from vitreous.brain.pls import TOLERANCE
from vitreous.brain.predictivity import (
    RegressionOptions,
    linear_predictivity,
    one_to_one,
    pls_predictivity,
    ridge_cv_predictivity,
    ridge_predictivity,
)
from vitreous.brain.score import Score
from vitreous.brain.similarity import cka, cka_measure, rdm_measure, rdm_similarity
from vitreous.brain.splits import Groups, Splits
from vitreous.errors import VitreousError, nearest
from vitreous.statistics import jackknife_interval

REGRESSIONS = ("pls", "ridge", "ridge_cv", "linear", "one_to_one")
SIMILARITIES = ("rdm", "cka")
METRICS = (*REGRESSIONS, *SIMILARITIES)
Setting = str | int | float


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric and its settings; those that another metric has are ignored.

    Attributes:
        metric: One of `METRICS`.
        components: PLS components.
        tolerance: Where PLS stops its search for a component; see `pls_predictivity`.
        alpha: Penalty of `ridge`; of several the best by leave-one-out is taken in each split.
        unbiased: Whether `cka` takes the unbiased estimator.
        splits: How images are split; by default Brain-Score's ten for regressions, and all images
            at once for `rdm` and `cka`.
        device: Where PLS is computed: `cpu`, or a torch device.
        threads: Limit of BLAS threads; None leaves it.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(20, 5))
        >>> measure = Measure(metric="cka", unbiased=False)
        >>> round(measure(features, 3 * features).score, 6), measure.settings()["splits"]
        (1.0, 'all images')
    """

    metric: str = "pls"
    components: int = 25
    tolerance: float | None = TOLERANCE
    alpha: tuple[float, ...] = (1.0,)
    unbiased: bool = True
    splits: Splits | None = None
    device: str = "cpu"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise VitreousError(f"unknown metric '{self.metric}'; {nearest(self.metric, METRICS)}")

    @property
    def regression(self) -> bool:
        """Whether the metric predicts each neuroid, so that a noise ceiling relates to it."""
        return self.metric in REGRESSIONS

    def settings(self) -> dict[str, Setting]:
        """What a number of this measure depends on, in plain values."""
        about: dict[str, Setting] = {}
        if self.metric == "pls":
            about["components"] = self.components
            about["tolerance"] = 0.0 if self.tolerance is None else self.tolerance
        if self.metric == "ridge":
            about["alpha"] = ", ".join(f"{value:g}" for value in self.alpha)
        if self.metric == "cka":
            about["estimator"] = "unbiased" if self.unbiased else "biased"
        splits = self.splits or (Splits() if self.regression else None)
        about["splits"] = "all images" if splits is None else str(splits)
        return about

    def kernel(self, features: np.ndarray) -> Kernel | None:
        """What several regions can share of one layer's work."""
        if not self.regression or self.metric == "one_to_one":
            return None
        with blas_threads(self.threads):
            return Kernel.of(features)

    def __call__(
        self,
        features: np.ndarray,
        responses: np.ndarray,
        groups: Groups = None,
        kernel: Kernel | None = None,
    ) -> Score:
        """Score features (images × units) against responses (images × neuroids)."""
        if self.metric == "rdm":
            return rdm_similarity(features, responses, groups, splits=self.splits)
        if self.metric == "cka":
            unbiased, splits = self.unbiased, self.splits
            return cka(features, responses, groups, unbiased=unbiased, splits=splits)
        shared = RegressionOptions(splits=self.splits, threads=self.threads, kernel=kernel)
        if self.metric == "pls":
            return pls_predictivity(
                features,
                responses,
                groups,
                components=self.components,
                tolerance=self.tolerance,
                device=self.device,
                **shared,
            )
        if self.metric == "ridge":
            return ridge_predictivity(features, responses, groups, penalty=self.alpha, **shared)
        others = {
            "ridge_cv": ridge_cv_predictivity,
            "linear": linear_predictivity,
            "one_to_one": one_to_one,
        }
        return others[self.metric](features, responses, groups, **shared)

    def interval(
        self, features: np.ndarray, responses: np.ndarray, score: Score
    ) -> tuple[float, float] | None:
        """The 95 % interval of a score of these features and responses.

        Regressions: bootstrap over neuroids. Similarities: jackknife over images, since an image
        drawn twice would be similar to itself. None where there are too few of either.
        """
        if not np.isfinite(score.score):
            return None
        if self.regression:
            return score.interval("neuroids") if score.raw.shape[1] > 1 else None
        if self.metric == "rdm":
            on = rdm_measure(features, responses)
        else:
            on = cka_measure(features, responses, self.unbiased)
        return jackknife_interval(on, len(responses), score.score)
