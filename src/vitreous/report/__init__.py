"""The card of one model or of several: `write_card`, and the same as Markdown or as PNG figures.

Everything on a card is read from `results.json` and the run folder beside it. What is not there
is not on the card: the headline says what was not measured, and a figure without numbers is left
out. The first model is the one that the others are compared with.

**Records** (`vitreous.results.Record`). All are in the table; these are also in the headline or
in a figure. Fractions are in [0, 1] and shown as percent. Accuracy is `top1`, `accuracy` or
`robust_accuracy`.

- suite `clean` (dataset: the ordinary test set), accuracy: headline *Clean*.
- suite `shifts` (dataset: a shifted test set; settings `convention`), accuracy: headline
  *Shifted*, the mean over sets; rows of dots below the clean set's.
- suite `attack`, accuracy; settings `attack`, `epsilon` (images in [0, 1]; 0 = none), `norm`
  (`linf`), `steps`, `restarts`: headline *Attacked*, the largest ε up to 4/255; robustness curve.
- suite `rotation`, accuracy; settings `angle` in degrees: headline *Turned*, the mean of 90, 180
  and 270; curve by angle. Metric `invariance`: table.
- suite `corruptions`, accuracy; settings `corruption`, `severity`: curves; of more than three
  corruptions the mean over them and a heat map come first.
- suite `explanation` (dataset: a masked set; settings `method`), `foreground_share`: headline
  *Relevance on the object*; `pixel_accuracy`, `mean_iou`, `pointing_game`, …: table.
- suite `brain` (dataset: an assembly; metric `pls`, `ridge`, `cka`, …; settings `region`, `layer`,
  `convention`: `raw`, `ceiling` or how it was ceiled, `chosen_on`: the assembly that the layer was
  chosen on): headline *Brain*, the mean over regions of one kind; a figure for each assembly,
  metric and convention. Records of before (`raw`, `ceiled`; setting `regression`) are understood.

Of several records of one thing `Results.current` chooses. Where several things fit one place of the
headline the first is taken, or those whose settings hold `headline: true`. Models are compared on
records with the same suite, dataset, metric and settings; `layer`, `preprocessing`, `size`,
`crop_ratio` and `interpolation` may differ.

**`Results.extra`** (each optional):

- `notes`: text, or a list of texts: what the reader must be told; under the headline.
- `evaluation`: `{dataset: {…}}` as `vitreous.evaluation` describes it: change of accuracy by class,
  turned, perturbed, by factor, calibration, shape bias, effective robustness, removed pixels; the
  best and the worst images.
- `depth`: `{name: [{"layer", "depth", "score", "error"}, …]}`: score by depth; `pixels`: `{name:
  {"score", "error"}}`: that of the pixels themselves.
- `brain_reference`: `{name: {region: score}}`, ceiled as in the 2022 paper: beside the bars.
- `rdms`: `{name: square matrix}`: dissimilarity matrices, side by side.
- `warnings`: texts: under the headline too, as the `warnings` of records.

**Run folder** (each optional): `metrics.jsonl` (one object a line: `step`, `epoch`, `split` and
figures; one curve for each figure), `samples/samples.json` (a list of `{index, label, class_name,
files: {picture, mask, before, after}, foreground_before, foreground_after}`; the best and the worst
changes are shown), `targeted/targeted.json` (a list of `{title, files: {caption: name}}`: strips
of targeted perturbations), `predictions/NAME-DIGEST/predictions.csv` (columns `file`, `label`,
`prediction`, `correct`: paired differences, confusions), `recipe.yaml`. `Results.context` and the
provenance of the records are the table of facts.
"""

from vitreous.report.card import write_card

__all__ = ["write_card"]
