"""Evaluation: accuracy on shifted test sets, rotation, explanations, intervals.

Numbers are `Record`s (suite `clean`, `shifts`, `corruptions`, `rotation`, `explanation` or
`comparison`). What is more than numbers lies in `Results.extra["evaluation"][DATASET]`, where
DATASET is a record's `dataset`. Every entry below is optional but the first five; lists of one
entry run in step, fractions are in [0, 1], files are relative to the folder of `results.json`.

| key | shape |
| --- | --- |
| `source` | text: where the set comes from |
| `n` | images, unreadable ones included |
| `preprocessing` | `{size: [h, w], crop_ratio, interpolation, crop_mode}`, reduced `decoding` |
| `convention` | name of the convention that the entries below are counted under |
| `unreadable` | `{count, files: [{file, reason}, …]}` (100 named at most); they count as wrong |
| `per_class` | `{class: [index], name: [text], n: [int], correct: [int]}` |
| `calibration` | `{edges: [bins + 1], n: [bins], confidence: [bins], accuracy: [bins]}` |
| `best`, `worst` | `[{picture, relevance or null, file, label, prediction, confidence, nll}]`; \
`picture` and `relevance` are files of images, `label` and `prediction` are class names |
| `corruptions` | ImageNet-C: `{corruption: [c names], severity: [s numbers], \
top1: [c × s, null where missing], n: [c × s], error: [c], alexnet_error: [c]}` |
| `rotation` | `{angle: [degrees], top1: [], low: [], high: [], same_prediction: [], n: []}` |
| `perturbations` | noise and blur of the view: `{kind: [text], severity: [number], top1: [], \
low: [], high: [], n: []}` |
| `factors` | SI-Score-like sets, what varies most: `{name: text, value: [number or text], \
top1: [], n: []}` |
| `all_factors` | a list of such tables, one for each factor that varies |
| `shape_bias` | `{category: [text], shape: [int], texture: [int], other: [int]}` |
| `effective_robustness` | `{x: text, y: text, points: [[x, y], …], line: [intercept, slope] \
in logits, model: [x, y], n: [images at home, on the shift]}` |
| `explanations` | `{METHOD: {fraction: [], positive: [], negative: [], n: []}}`: accuracy after \
removing a fraction of the pixels, most (positive) or least (negative) relevant first |
"""

from vitreous.evaluation.evaluators.accuracy import predict, predictions
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.predictions import Predictions
from vitreous.evaluation.run import Evaluation, EvaluationFolders, compare, evaluate
from vitreous.evaluation.segmentation import segmentation_scores
from vitreous.evaluation.stream import Evaluator, StreamSettings, stream
from vitreous.evaluation.suites import Suite, load_suite

__all__ = [
    "Evaluation",
    "EvaluationFolders",
    "Evaluator",
    "ExplanationSettings",
    "Predictions",
    "StreamSettings",
    "Suite",
    "compare",
    "evaluate",
    "load_suite",
    "measure_explanations",
    "predict",
    "predictions",
    "segmentation_scores",
    "stream",
]
