"""Brain scores told apart: by recording, metric, layer and convention."""

from __future__ import annotations

import dataclasses

from vitreous.report.sources import Source
from vitreous.results import Record

REGRESSIONS = {
    "pls": "PLS regression",
    "ridge": "ridge regression",
    "ridge_cv": "ridge regression with a chosen penalty",
    "linear": "linear regression",
    "one_to_one": "one unit to one neuroid",
}
SIMILARITIES = {
    "cka": "CKA",
    "rdm": "similarity of dissimilarity matrices",
}
# What a regression's value is: a ceiled one is no correlation.
CONVENTIONS = {
    "raw": "correlation r",
    "brainscore_2022": "(r / ceiling)², as in the 2022 paper",
    "brainscore_2026": "r² / ceiling",
}
# How records of the first version named the value; the regression was a setting.
OLD_METRICS = {"raw": "raw", "ceiling": "ceiling", "score": "raw", "ceiled": "", "ceiled_score": ""}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What scores must share to stand on one axis.

    Attributes:
        assembly: The recording.
        metric: `pls`, `cka`, … or empty where it is not said.
        convention: `raw`, or how the score was divided by the ceiling.
        chosen_on_it: Whether the layers were chosen on this recording.
    """

    assembly: str
    metric: str
    convention: str
    chosen_on_it: bool

    @property
    def words(self) -> str:
        """Metric and convention."""
        plain = self.convention.replace("_", " ")
        if self.metric in REGRESSIONS:
            return f"{REGRESSIONS[self.metric]}: {CONVENTIONS.get(self.convention, plain)}"
        metric = self.metric.replace("_", " ") or "metric not named"
        metric = SIMILARITIES.get(self.metric, metric)
        if self.convention == "raw":
            return metric
        return f"{metric}, {CONVENTIONS.get(self.convention, plain)}"


@dataclasses.dataclass(frozen=True)
class BrainScore:
    """One score of one region."""

    kind: Kind
    region: str
    layer: str
    record: Record


def brain_scores(source: Source) -> list[BrainScore]:
    """Scores of regions in a model's records; ceilings are left out.

    A region that was scored with several layers is there with each of them.
    """
    found = []
    for record in source.records:
        settings = record.settings
        if record.suite != "brain" or "region" not in settings:
            continue
        metric, convention = record.metric, str(settings.get("convention") or "raw")
        if record.metric in OLD_METRICS:
            metric = str(settings.get("regression") or "")
            convention = OLD_METRICS[record.metric] or convention
        if convention == "ceiling":
            continue
        chosen = settings.get("chosen_on") == record.dataset
        kind = Kind(record.dataset, metric, convention, chosen)
        layer = str(settings.get("layer") or "layer not named")
        found.append(BrainScore(kind, str(settings["region"]), layer, record))
    return found
