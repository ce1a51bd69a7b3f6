"""The work of `vitreous brain score` and `vitreous brain layers`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vitreous.brain.activations import extract
from vitreous.brain.plots import PLOT, plot_depth
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
from vitreous.commands.brain.reading import measure_of, read_recording
from vitreous.commands.brain.running import (
    default_layers,
    extraction,
    load_measured,
    results_file,
    torch_device,
    value_text,
    write,
)
from vitreous.errors import VitreousError
from vitreous.folders import check_file
from vitreous.models import Classifier
from vitreous.results import Record, Results

if TYPE_CHECKING:
    from vitreous.commands.brain.score import Layers, ScoreRegions, ScoringOptions


def _report(
    options: ScoringOptions,
    classifier: Classifier,
    recording: Recording,
    layers: Mapping[str, str],
    chosen_on: Mapping[str, str],
    fresh: Results,
    *,
    again: bool = False,
) -> None:
    """Score one layer a region of a recording, add that to results, and print it."""
    measure = measure_of(options, torch_device(options))
    rows = score_regions(
        classifier,
        recording,
        layers,
        options.cache,
        measure=measure,
        extraction=extraction(options, again),
    )
    degrees = options.degrees_of_view
    before = len(fresh.records)
    add_regions(fresh, recording, rows, measure, chosen_on=chosen_on, degrees=degrees)
    if options.rdms:
        _add_rdms(options, classifier, recording, rows, fresh)
    print_records(fresh.records[before:], rows)


def _add_rdms(
    options: ScoringOptions,
    classifier: Classifier,
    recording: Recording,
    rows: Sequence[RegionScore],
    fresh: Results,
) -> None:
    for row in rows:
        images = recording.images()
        taken = extract(
            classifier, images, [row.layer], options.cache, extraction(options, again=True)
        )
        model, neurons = rdm_pair(taken[row.layer], recording.select(row.region).responses())
        name = f"{recording.name} {row.region}"
        add_rdms(fresh, {f"{name}: {row.layer}": model, name: neurons})


def score_one_layer(options: ScoreRegions) -> None:
    """Score, print, and write results."""
    began = time.perf_counter()
    classifier, recording = load_measured(options), read_recording(options)
    regions = list(options.region) or recording.regions
    before = read_choice(results_file(options, classifier))
    if options.layers:
        chosen = _layer_map(options.layers, regions)
    else:
        chosen = _stored_layers(before, regions)
    origin = {
        region: before[region]["assembly"]
        if before.get(region, {}).get("layer") == layer
        else options.chosen_on
        for region, layer in chosen.items()
    }
    fresh = Results(classifier.name)
    known = {region: name for region, name in origin.items() if name}
    _report(options, classifier, recording, chosen, known, fresh)
    write(options, "score", classifier, fresh, began)


def score_every_layer(options: Layers) -> None:
    """Score, choose, report, plot."""
    began = time.perf_counter()
    classifier = load_measured(options)
    plot = results_file(options, classifier).with_name("score_by_depth.png")
    if options.out is not None and options.out.suffix == ".json":  # in a folder that may be foreign
        check_file(plot, PLOT.encode(), "a plot", overwrite=options.overwrite)
    recording, other = read_recording(options), _other(options)
    regions = list(options.region) or recording.regions
    if other is not None and not set(regions) & set(other.regions):
        raise VitreousError(
            f"{other.name} has none of the regions {', '.join(regions)}, only "
            f"{', '.join(other.regions)}"
        )
    scores = score_layers(
        classifier,
        recording,
        default_layers(classifier, options.layers),
        options.cache,
        measure=measure_of(options, torch_device(options)),
        regions=options.region,
        reduction=_reduction(options),
        extraction=extraction(options),
    )
    chosen = choose_layers(scores)
    print_depth(scores)
    fresh = Results(classifier.name)
    add_depth(fresh, scores, recording.name, options.metric)
    add_choice(fresh, chosen, recording.name, options.metric)
    shown = other or recording
    reported = {region: layer for region, layer in chosen.items() if region in shown.regions}
    origin = dict.fromkeys(chosen, recording.name)
    _report(options, classifier, shown, reported, origin, fresh, again=other is None)
    write(options, "layers", classifier, fresh, began)
    print(f"score by depth: {plot_depth(scores, plot, options.metric)}")


def _other(options: Layers) -> Recording | None:
    """The recording to report on, where it is another one."""
    if not (options.report_assembly or options.report_session):
        return None
    other = dataclasses.replace(
        options,
        assembly=options.report_assembly or options.assembly,
        session=options.report_session or options.session,
        stimuli=options.report_stimuli,
        table=options.report_table,
        neuroids=options.report_neuroids,
    )
    return read_recording(other)


def _reduction(options: Layers) -> Reduction | None:
    if options.pca_images is None:
        return None
    return Reduction(read_stimuli(options.pca_images), options.pca_components)


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
