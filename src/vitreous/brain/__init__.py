"""How well a network predicts neurons and choices of primates, by Brain-Score's definitions.

The metrics take arrays: features are images × units, responses images × neuroids, trials
repetitions × images × neuroids with NaN where a trial is missing. Each returns a `Score` with
`score`, `error` and `raw`.

What `vitreous brain` adds to `results.json`, for the card and for other readers:

- `records`: suite `brain`, dataset = name of the assembly, metric `pls`, `ridge`, … (raw
  correlation), `ceiling`, or a ceiled score under the name of its convention
  (`brainscore_2026`, `brainscore_2022`); settings `region`, `layer`, and `regression` for ceiled
  scores; `n` = neuroids; `ci95` over neuroids.
- `extra["brain"]["regions"]`: a list of `{region, assembly, layer, metric, raw, error, ceiling,
  scores: {convention: value}, ci95: {splits: [low, high], neuroids: [low, high]}}`, one bar each.
  `ceiling` is null and `scores` empty where the recording has no repetitions.
- `extra["brain"]["score_by_depth"]`: region → list of `{layer, depth, score, error}` in forward
  order, depth from 0 to 1.
- `extra["brain"]["rdms"]`: a list of `{name, size, matrix}`: dissimilarities (1 − r) of at most 96
  pictures as nested lists; larger ones are thinned evenly, `size` tells the original number.
- `extra["brain"]["rdm_similarity"]`: a list of `{first, second, spearman}`.

`published()` gives the rows to compare with (`published.json`): `models` (the paper's four,
ceiled under `brainscore_2022`, keys V1, V2, V4, IT, behaviour) and `reference` (ceilings, and
AlexNet's raw r).
"""

from vitreous.brain.behaviour import (
    Trials,
    ceiled_i2n,
    cohens_kappa,
    error_consistency,
    i2n,
    i2n_ceiling,
)
from vitreous.brain.consistency import average_trials, internal_consistency, spearman_brown
from vitreous.brain.gram import Kernel, gram
from vitreous.brain.predictivity import (
    linear_predictivity,
    one_to_one,
    pearson,
    pls_curve,
    pls_predictivity,
    ridge_cv_predictivity,
    ridge_predictivity,
)
from vitreous.brain.score import CONVENTIONS, Score, aggregate, ceiled, published
from vitreous.brain.similarity import LEAVE_OUT, cka, compare_rdms, rdm, rdm_similarity
from vitreous.brain.splits import Splits

__all__ = [
    "CONVENTIONS",
    "LEAVE_OUT",
    "Kernel",
    "Score",
    "Splits",
    "Trials",
    "aggregate",
    "average_trials",
    "ceiled",
    "ceiled_i2n",
    "cka",
    "cohens_kappa",
    "compare_rdms",
    "error_consistency",
    "gram",
    "i2n",
    "i2n_ceiling",
    "internal_consistency",
    "linear_predictivity",
    "one_to_one",
    "pearson",
    "pls_curve",
    "pls_predictivity",
    "published",
    "rdm",
    "rdm_similarity",
    "ridge_cv_predictivity",
    "ridge_predictivity",
    "spearman_brown",
]
