"""How well a network predicts neurons and choices of primates, by Brain-Score's definitions.

The metrics take arrays: features are images × units, responses images × neuroids, trials
repetitions × images × neuroids with NaN where a trial is missing. Each returns a `Score` with
`score`, `error` and `raw`.

What `vitreous brain` adds to `results.json`, for the card and for other readers:

- records: suite `brain`, dataset = name of the assembly, metric = name of the metric (`pls`,
  `ridge`, `cka`, …, `internal_consistency`), `n` = neuroids (images for similarities of given
  matrices and for behaviour), a 95 % interval. Settings: `assembly`, `region`, `layer`,
  `convention` (`raw`, `ceiling`, or a published one), `chosen_on`, and those of the metric.
- `extra["brain"]["regions"]`: name → score, standard error and interval over splits, ceiling.
- `extra["brain"]["chosen"]`: region → `{layer, assembly, metric}` that `layers` chose.
- `extra["depth"]`: "region · assembly · metric" → list of `{layer, depth, score, error}` in
  forward order, depth from 0 to 1. `extra["pixels"]`: the same name → `{score, error}`.
- `extra["rdms"]`: name → dissimilarity matrix (1 − r) of at most 96 images.
- `extra["brain_reference"]`: name → region → published score under `brainscore_2022`.

`published()` gives the rows to compare with (`published.json`): `models` (the paper's four,
ceiled under `brainscore_2022`, keys V1, V2, V4, IT, behaviour) and `reference` (ceilings, and
AlexNet's raw r).
"""

from vitreous.brain.activations import Extraction, extract
from vitreous.brain.agreement import (
    consistency_of_people,
    error_consistency,
    error_consistency_interval,
)
from vitreous.brain.behaviour import (
    I2nIntervals,
    Trials,
    ceiled_i2n,
    i2n,
    i2n_ceiling,
    i2n_intervals,
)
from vitreous.brain.benchmarks import load_recording
from vitreous.brain.choices import ChoiceTask, find_choices, load_trials
from vitreous.brain.consistency import average_trials, internal_consistency, spearman_brown
from vitreous.brain.export import Plugin, export_plugin
from vitreous.brain.gram import Kernel, gram
from vitreous.brain.measure import Measure
from vitreous.brain.predictivity import (
    linear_predictivity,
    one_to_one,
    pls_curve,
    pls_predictivity,
    ridge_cv_predictivity,
    ridge_predictivity,
)
from vitreous.brain.readers import read_arrays, read_macaque, read_netcdf
from vitreous.brain.readout import readout_probabilities
from vitreous.brain.recordings import Recording, make_assembly
from vitreous.brain.score import CONVENTIONS, Score, aggregate, ceiled, ceiled_interval, published
from vitreous.brain.scoring import (
    LayerScore,
    RegionScore,
    choose_layers,
    score_layers,
    score_regions,
)
from vitreous.brain.similarity import LEAVE_OUT, cka, compare_rdms, rdm, rdm_similarity
from vitreous.brain.splits import Splits
from vitreous.brain.stimuli import Stimuli, read_stimuli

__all__ = [
    "CONVENTIONS",
    "LEAVE_OUT",
    "ChoiceTask",
    "Extraction",
    "I2nIntervals",
    "Kernel",
    "LayerScore",
    "Measure",
    "Plugin",
    "Recording",
    "RegionScore",
    "Score",
    "Splits",
    "Stimuli",
    "Trials",
    "aggregate",
    "average_trials",
    "ceiled",
    "ceiled_i2n",
    "ceiled_interval",
    "choose_layers",
    "cka",
    "compare_rdms",
    "consistency_of_people",
    "error_consistency",
    "error_consistency_interval",
    "export_plugin",
    "extract",
    "find_choices",
    "gram",
    "i2n",
    "i2n_ceiling",
    "i2n_intervals",
    "internal_consistency",
    "linear_predictivity",
    "load_recording",
    "load_trials",
    "make_assembly",
    "one_to_one",
    "pls_curve",
    "pls_predictivity",
    "published",
    "rdm",
    "rdm_similarity",
    "read_arrays",
    "read_macaque",
    "read_netcdf",
    "read_stimuli",
    "readout_probabilities",
    "ridge_cv_predictivity",
    "ridge_predictivity",
    "score_layers",
    "score_regions",
    "spearman_brown",
]
