"""`vitreous brain score` and `vitreous brain layers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vitreous.brain.activations import extract
from vitreous.brain.plots import plot_depth
from vitreous.brain.recordings import Recording
from vitreous.brain.scoring import (
    LayerScore,
    Measure,
    Reduction,
    add_depth,
    add_rdms,
    add_regions,
    choose_layers,
    rdm_pair,
    score_layers,
)
from vitreous.brain.stimuli import read_stimuli
from vitreous.commands.brain.options import ModelOptions, RecordingOptions, default_layers
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.results import Results

MetricName = Literal["pls", "ridge", "ridge_cv", "linear", "one_to_one", "rdm", "cka"]


@dataclasses.dataclass
class _Common(RecordingOptions, ModelOptions):
    layers: tuple[str, ...] = ()
    """Layers by name or pattern: blocks.*, blocks.3.norm1, pixels."""
    metric: MetricName = "pls"
    """How features are compared with responses."""
    components: int = 25
    """PLS components."""
    threads: int | None = None
    """Limit of BLAS threads."""
    out: Path | None = None
    """results.json to add to; the run's own, else brain_results/MODEL/results.json."""

    def measure(self) -> Measure:
        """The metric with its settings."""
        return Measure(self.metric, self.components, self.device, self.threads)

    def score(
        self,
        classifier: Classifier,
        recording: Recording,
        layers: Sequence[str],
        reduction: Reduction | None = None,
    ) -> dict[str, list[LayerScore]]:
        """Score layers."""
        return score_layers(
            classifier,
            recording,
            layers,
            self.cache,
            measure=self.measure(),
            extraction=self.extraction(),
            regions=self.region,
            reduction=reduction,
        )


@dataclasses.dataclass
class ScoreRegions(_Common):
    """Score one layer a region; prints and stores raw and ceiled scores."""

    rdms: bool = True
    """Store dissimilarity matrices of the layer and of the recording for the card."""

    def run(self) -> None:
        """Score, print, and write results."""
        classifier, recording = self.load(), self.read()
        regions = list(self.region) or recording.regions
        chosen = _layer_map(self.layers, regions)
        rows: dict[str, LayerScore] = {}
        for region in regions:
            found = self.score(classifier, recording, [chosen[region]])[region]
            if len(found) > 1:
                names = ", ".join(row.layer for row in found[:4])
                raise VitreousError(
                    f"'{chosen[region]}' matches {len(found)} layers ({names}, …); name one, or "
                    "let `vitreous brain layers` choose"
                )
            rows[region] = found[0]
        results, out = self.results(classifier, self.out)
        add_regions(results, recording, rows, self.measure())
        if self.rdms:
            _store_rdms(self, results, classifier, recording, rows)
        print_regions(results, recording, rows)
        print(f"results: {results.write(out)}")


@dataclasses.dataclass
class Layers(_Common):
    """Score every layer, choose the best a region, and report it, on another recording if given."""

    pca_images: Path | None = None
    """Choose on principal components fitted on these pictures (Brain-Score: 1000 of ImageNet's
    validation set); the chosen layers are reported with all units, on --report-assembly."""
    pca_components: int = 1000
    """How many principal components."""
    report_assembly: str = ""
    """Recording to report the chosen layers on; without it they are reported on the recording they
    were chosen on, which flatters them."""
    report_session: str = ""
    """Its session."""
    report_stimuli: Path | None = None
    """Its pictures."""

    def run(self) -> None:
        """Score, choose, report, plot."""
        classifier, recording = self.load(), self.read()
        layers = default_layers(classifier, self.layers)
        scores = self.score(classifier, recording, layers, self._reduction())
        chosen = choose_layers(scores)
        best = {
            region: next(row for row in rows if row.layer == chosen[region])
            for region, rows in scores.items()
        }
        results, out = self.results(classifier, self.out)
        print_depth(scores)
        add_depth(results, scores)
        add_regions(results, recording, best, self.measure())
        _store_rdms(self, results, classifier, recording, best)
        print_regions(results, recording, best)
        if self.report_assembly or self.report_session:
            self._report(classifier, chosen, results)
        print(f"results: {results.write(out)}")
        print(f"score by depth: {plot_depth(scores, out.with_name('score_by_depth.png'))}")

    def _reduction(self) -> Reduction | None:
        if self.pca_images is None:
            return None
        return Reduction(read_stimuli(self.pca_images), self.pca_components)

    def _report(self, classifier: Classifier, chosen: dict[str, str], results: Results) -> None:
        """Score the chosen layers on the other recording."""
        other = dataclasses.replace(
            self,
            assembly=self.report_assembly or self.assembly,
            session=self.report_session or self.session,
            stimuli=self.report_stimuli,
        ).read()
        regions = [region for region in chosen if region in other.regions]
        if not regions:
            raise VitreousError(
                f"{other.name} has none of the regions {', '.join(chosen)}, only "
                f"{', '.join(other.regions)}"
            )
        rows = {}
        for region in regions:
            one = dataclasses.replace(self, region=(region,))
            rows[region] = one.score(classifier, other, [chosen[region]])[region][0]
        add_regions(results, other, rows, self.measure())
        print_regions(results, other, rows)


def _layer_map(layers: Sequence[str], regions: Sequence[str]) -> dict[str, str]:
    """Read `--layers LAYER` or `--layers V4=LAYER IT=LAYER`."""
    if len(layers) == 1 and "=" not in layers[0]:
        return dict.fromkeys(regions, layers[0])
    pairs = dict(layer.split("=", 1) for layer in layers if "=" in layer)
    missing = [region for region in regions if region not in pairs]
    if missing or len(pairs) != len(layers):
        raise VitreousError(
            f"no layer for {', '.join(missing) or 'some region'}; give --layers LAYER, or one a "
            f"region: --layers {' '.join(f'{r}=LAYER' for r in regions)}; `vitreous brain layers` "
            "finds the best"
        )
    return pairs


def _store_rdms(
    command: _Common,
    results: Results,
    classifier: Classifier,
    recording: Recording,
    rows: Mapping[str, LayerScore],
) -> None:
    for region, row in rows.items():
        features = extract(
            classifier, recording.images(), [row.layer], command.cache, command.extraction()
        )[row.layer]
        model, neurons = rdm_pair(features, recording.select(region).responses())
        add_rdms(results, {f"{region} {row.layer}": model, f"{recording.name} {region}": neurons})


def print_depth(scores: Mapping[str, Sequence[LayerScore]]) -> None:
    """Print the score of every layer."""
    regions = list(scores)
    print("layer".ljust(32) + "".join(region.rjust(18) for region in regions))
    for rows in zip(*scores.values()):
        cells = "".join(f"{r.score.score:.3f} ± {r.score.error:.3f}".rjust(18) for r in rows)
        print(rows[0].layer.ljust(32) + cells)


def print_regions(results: Results, recording: Recording, rows: Mapping[str, LayerScore]) -> None:
    """Print the scores of regions as they are stored."""
    for entry in results.extra["brain"]["regions"]:
        if entry["assembly"] != recording.name or entry["region"] not in rows:
            continue
        interval = entry["ci95"]["neuroids"]
        line = f"{recording.name} {entry['region']} · {entry['layer']} · {entry['metric']} "
        line += f"{entry['raw']:.3f} ± {entry['error']:.3f}"
        if interval:
            line += f", 95 % over neuroids {interval[0]:.3f}–{interval[1]:.3f}"
        if entry["ceiling"] is not None:
            line += f", ceiling {entry['ceiling']:.3f}"
        for name, value in entry["scores"].items():
            line += f", {name} {value:.3f}"
        print(line)
