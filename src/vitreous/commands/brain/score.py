"""`vitreous brain score` and `vitreous brain layers`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from vitreous.brain.activations import extract
from vitreous.brain.plots import plot_depth
from vitreous.brain.recordings import Recording
from vitreous.brain.records import (
    add_choice,
    add_depth,
    add_rdms,
    add_regions,
    rdm_pair,
    read_choice,
)
from vitreous.brain.scoring import (
    LayerScore,
    Reduction,
    RegionScore,
    choose_layers,
    score_layers,
    score_regions,
)
from vitreous.brain.stimuli import read_stimuli
from vitreous.commands.brain.options import ModelOptions, default_layers, value_text
from vitreous.commands.brain.recording import MeasureOptions, RecordingOptions
from vitreous.errors import VitreousError
from vitreous.models import Classifier
from vitreous.ranges import at_least
from vitreous.results import Record, Results


@dataclasses.dataclass(kw_only=True)
class _Scoring(RecordingOptions, MeasureOptions, ModelOptions):
    rdms: bool = True
    """Store dissimilarity matrices of the layer and of the recording for the card."""

    def report(
        self,
        classifier: Classifier,
        recording: Recording,
        layers: Mapping[str, str],
        chosen_on: Mapping[str, str],
        fresh: Results,
        *,
        again: bool = False,
    ) -> None:
        """Score one layer a region of a recording, add that to results, and print it."""
        measure = self.measure(self.torch_device())
        rows = score_regions(
            classifier,
            recording,
            layers,
            self.cache,
            measure=measure,
            extraction=self.extraction(again),
        )
        degrees = self.degrees_of_view
        before = len(fresh.records)
        add_regions(fresh, recording, rows, measure, chosen_on=chosen_on, degrees=degrees)
        if self.rdms:
            self._add_rdms(classifier, recording, rows, fresh)
        print_records(fresh.records[before:], rows)

    def _add_rdms(
        self,
        classifier: Classifier,
        recording: Recording,
        rows: Sequence[RegionScore],
        fresh: Results,
    ) -> None:
        for row in rows:
            images = recording.images()
            taken = extract(
                classifier, images, [row.layer], self.cache, self.extraction(again=True)
            )
            model, neurons = rdm_pair(taken[row.layer], recording.select(row.region).responses())
            name = f"{recording.name} {row.region}"
            add_rdms(fresh, {f"{name}: {row.layer}": model, name: neurons})


@dataclasses.dataclass(kw_only=True)
class ScoreRegions(_Scoring):
    """Score one layer a region against a recording: raw, its ceiling, and relative to it.

    Example: vitreous brain score runs/x --assembly MajajHong2015.public --layers V4=blocks.6
    """

    layers: tuple[str, ...] = ()
    """LAYER for all regions, or V4=LAYER IT=LAYER; by default what `vitreous brain layers` chose
    and stored in the results."""
    chosen_on: str = ""
    """Name of the recording on which you chose the layers, where it was not `brain layers` that
    did; stored with the score."""

    def run(self) -> None:
        """Score, print, and write results."""
        began = time.perf_counter()
        classifier, recording = self.load(), self.read()
        regions = list(self.region) or recording.regions
        before = read_choice(self.results_file(classifier))
        if self.layers:
            chosen = _layer_map(self.layers, regions)
        else:
            chosen = _stored_layers(before, regions)
        origin = {
            region: before[region]["assembly"]
            if before.get(region, {}).get("layer") == layer
            else self.chosen_on
            for region, layer in chosen.items()
        }
        fresh = Results(classifier.name)
        known = {region: name for region, name in origin.items() if name}
        self.report(classifier, recording, chosen, known, fresh)
        self.write("score", classifier, fresh, began)


@dataclasses.dataclass(kw_only=True)
class Layers(_Scoring):
    """Score every layer, choose the best a region, and report it, on another recording if given.

    Example: vitreous brain layers runs/x --assembly macaque_v4/ --session 201025 --report-session
    210325
    """

    layers: tuple[str, ...] = ()
    """Layers by name or pattern: blocks.*, blocks.3.norm1, pixels; a Transformer's blocks by
    default."""
    pca_images: Path | None = None
    """Choose on principal components fitted on these images (Brain-Score: 1000 of ImageNet's
    validation set); the chosen layers are reported with all units."""
    pca_components: Annotated[int, at_least(1)] = 1000
    """How many principal components."""
    report_assembly: str = ""
    """Recording to report the chosen layers on; without it they are reported on the recording they
    were chosen on, which flatters them."""
    report_session: str = ""
    """Its session."""
    report_stimuli: Path | None = None
    """Its images."""
    report_table: Path | None = None
    """Its --table."""
    report_neuroids: Path | None = None
    """Its --neuroids."""

    def run(self) -> None:
        """Score, choose, report, plot."""
        began = time.perf_counter()
        classifier, recording, other = self.load(), self.read(), self._other()
        regions = list(self.region) or recording.regions
        if other is not None and not set(regions) & set(other.regions):
            raise VitreousError(
                f"{other.name} has none of the regions {', '.join(regions)}, only "
                f"{', '.join(other.regions)}"
            )
        scores = score_layers(
            classifier,
            recording,
            default_layers(classifier, self.layers),
            self.cache,
            measure=self.measure(self.torch_device()),
            regions=self.region,
            reduction=self._reduction(),
            extraction=self.extraction(),
        )
        chosen = choose_layers(scores)
        print_depth(scores)
        fresh = Results(classifier.name)
        add_depth(fresh, scores, recording.name, self.metric)
        add_choice(fresh, chosen, recording.name, self.metric)
        shown = other or recording
        reported = {region: layer for region, layer in chosen.items() if region in shown.regions}
        origin = dict.fromkeys(chosen, recording.name)
        self.report(classifier, shown, reported, origin, fresh, again=other is None)
        path = self.write("layers", classifier, fresh, began)
        plot = plot_depth(scores, path.with_name("score_by_depth.png"), self.metric)
        print(f"score by depth: {plot}")

    def _other(self) -> Recording | None:
        """The recording to report on, where it is another one."""
        if not (self.report_assembly or self.report_session):
            return None
        return dataclasses.replace(
            self,
            assembly=self.report_assembly or self.assembly,
            session=self.report_session or self.session,
            stimuli=self.report_stimuli,
            table=self.report_table,
            neuroids=self.report_neuroids,
        ).read()

    def _reduction(self) -> Reduction | None:
        if self.pca_images is None:
            return None
        return Reduction(read_stimuli(self.pca_images), self.pca_components)


def _layer_map(layers: Sequence[str], regions: Sequence[str]) -> dict[str, str]:
    """Read `--layers LAYER` or `--layers V4=LAYER IT=LAYER`."""
    if len(layers) == 1 and "=" not in layers[0]:
        return dict.fromkeys(regions, layers[0])
    pairs = dict(layer.split("=", 1) for layer in layers if "=" in layer)
    unknown = [region for region in pairs if region not in regions]
    if unknown:
        raise VitreousError(
            f"--layers names region '{unknown[0]}'; expected one of {', '.join(regions)}"
        )
    missing = [region for region in regions if region not in pairs]
    if missing or len(pairs) != len(layers):
        raise VitreousError(
            f"no layer for {', '.join(missing) or 'some region'}; give --layers LAYER, or one a "
            f"region: --layers {' '.join(f'{r}=LAYER' for r in regions)}, or fewer regions: "
            f"--region {regions[0]}"
        )
    return pairs


def _stored_layers(
    before: Mapping[str, Mapping[str, str]], regions: Sequence[str]
) -> dict[str, str]:
    """The layers that an earlier `vitreous brain layers` chose."""
    missing = [region for region in regions if region not in before]
    if missing:
        raise VitreousError(
            f"no layer for {', '.join(missing)}: give --layers LAYER, or let `vitreous brain "
            "layers` choose and store one"
        )
    return {region: before[region]["layer"] for region in regions}


def print_depth(scores: Mapping[str, Sequence[LayerScore]]) -> None:
    """Print the score of every layer."""
    regions = list(scores)
    print("layer".ljust(32) + "".join(region.rjust(18) for region in regions))
    for rows in zip(*scores.values()):
        cells = "".join(f"{r.score.score:.3f} ± {r.score.error:.3f}".rjust(18) for r in rows)
        print(rows[0].layer.ljust(32) + cells)


def print_records(records: Sequence[Record], rows: Sequence[RegionScore]) -> None:
    """Print the records of regions, a line each, and on what their layers were chosen."""
    errors = {row.region: row.score.error for row in rows}
    for record in records:
        about = record.settings
        parts = [record.dataset, about["region"], record.metric, about.get("layer", "")]
        line = f"{' · '.join(str(part) for part in parts if part)}: {value_text(record)}"
        if about["convention"] == "raw" and errors[about["region"]] >= 0:
            line += f" (standard error over splits {errors[about['region']]:.3f})"
        print(line)
    for record in records:
        if record.settings["convention"] == "raw" and record.settings["chosen_on"]:
            print(_origin(record))


def _origin(record: Record) -> str:
    about = record.settings
    if about["chosen_on"] == about["assembly"]:
        return (
            f"{about['region']}: {about['layer']} was chosen on this recording, which flatters it; "
            "report it on another one (--report-assembly, --report-session)"
        )
    return f"{about['region']}: {about['layer']} was chosen on {about['chosen_on']}"
