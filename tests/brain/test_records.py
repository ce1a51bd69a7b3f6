"""What brain records say: which recording, metric, layer and convention, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

import vitreous.brain as brain
from vitreous.brain.recordings import Recording, make_assembly
from vitreous.brain.records import add_choice, add_depth, read_choice, region_records, store
from vitreous.brain.score import Score, ceiled_interval
from vitreous.brain.scoring import LayerScore, RegionScore, layer_depths
from vitreous.errors import VitreousError
from vitreous.provenance import Provenance
from vitreous.results import Record, Results

N, UNITS, NEUROIDS = 80, 60, 6


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((N, UNITS))
    signal = features @ generator.standard_normal((UNITS, NEUROIDS)) / UNITS**0.5
    trials = signal[:, :, None] + 0.5 * generator.standard_normal((N, NEUROIDS, 6))
    names = [f"i{i}" for i in range(N)]
    assembly = make_assembly(trials, names, None, {"region": ["V4"] * NEUROIDS})
    return features, Recording("monkeys", assembly)


def score(data, measure):
    features, recording = data
    responses = recording.responses()
    found = measure(features, responses)
    interval = measure.interval(features, responses, found)
    return RegionScore("V4", "blocks.1", found, interval, recording.ceiling(), NEUROIDS)


METRICS = [
    brain.Measure("pls", components=5),
    brain.Measure("ridge", alpha=(1.0, 10.0)),
    brain.Measure("one_to_one"),
    brain.Measure("rdm"),
    brain.Measure("cka", unbiased=False),
]


@pytest.mark.parametrize("measure", METRICS, ids=lambda m: m.metric)
def test_every_record_names_what_it_belongs_to_and_has_an_interval(data, measure):
    records = region_records(data[1], score(data, measure), measure, chosen_on="others")
    by_convention = {record.settings["convention"]: record for record in records}
    ceiled = {"brainscore_2022", "brainscore_2026"} if measure.regression else set()
    assert set(by_convention) == {"raw", "ceiling", *ceiled}
    for convention, record in by_convention.items():
        named = record.settings
        assert record.dataset == named["assembly"] == "monkeys" and named["region"] == "V4"
        assert record.ci95[0] < record.value < record.ci95[1]
        if convention == "ceiling":
            assert record.metric == "internal_consistency"
            continue
        assert record.metric == measure.metric
        assert named["layer"] == "blocks.1" and named["chosen_on"] == "others"
        assert named["splits"] == ("10 x 0.1 held out, seed 1" if ceiled else "all images")


def test_each_setting_of_a_metric_makes_another_record(data):
    pls = brain.Measure("pls", components=5)
    others = [
        brain.Measure("pls", components=6),
        brain.Measure("pls", components=5, tolerance=None),
        brain.Measure("pls", components=5, splits=brain.Splits(seed=2)),
        brain.Measure("pls", components=5, splits=brain.Splits(number=5)),
        brain.Measure("pls", components=5, splits=brain.Splits(folds=5)),
        brain.Measure("pls", components=5, splits=brain.Splits(train_size=0.8)),
        brain.Measure("ridge"),
        brain.Measure("ridge", alpha=(2.0,)),
        brain.Measure("cka"),
        brain.Measure("cka", unbiased=False),
    ]
    row = score(data, pls)
    keys = {region_records(data[1], row, m)[0].topic() for m in [pls, *others]}
    assert len(keys) == 1 + len(others)


def test_the_ceiling_is_resampled_with_the_score():
    generator = np.random.default_rng(0)
    raw = generator.uniform(0.2, 0.9, (10, 30))
    same = brain.aggregate(raw)
    # A score that is its own ceiling is one in every sample of neuroids, and only if both are
    # taken of the same neuroids.
    assert ceiled_interval(same, same, "brainscore_2022") == pytest.approx((1, 1), abs=1e-12)
    other = brain.aggregate(generator.uniform(0.5, 0.9, (10, 30)))
    low, high = ceiled_interval(same, other, resamples=300, seed=5)
    draws, values = np.random.default_rng(5), []
    for _ in range(300):
        drawn = draws.integers(0, 30, 30)
        r, c = (np.median(table[:, drawn], axis=1).mean() for table in (raw, other.raw))
        values.append(r * r / c)
    assert (low, high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
    with pytest.raises(VitreousError, match="same neuroids"):
        ceiled_interval(same, brain.aggregate(raw[:, :9]))
    assert ceiled_interval(same, brain.aggregate(raw - 0.6)) is None  # some ceilings are negative


def test_a_measure_gives_what_its_function_gives(data):
    features, recording = data
    responses = recording.responses()
    splits = brain.Splits(folds=4, seed=3)
    pairs = [
        (
            brain.Measure("pls", components=5, tolerance=None, splits=splits),
            brain.pls_predictivity(
                features, responses, components=5, tolerance=None, splits=splits
            ),
        ),
        (
            brain.Measure("ridge", alpha=(3.0,), splits=splits),
            brain.ridge_predictivity(features, responses, penalty=3.0, splits=splits),
        ),
        (brain.Measure("cka", unbiased=False), brain.cka(features, responses, unbiased=False)),
        (
            brain.Measure("rdm", splits=brain.LEAVE_OUT),
            brain.rdm_similarity(features, responses, splits=brain.LEAVE_OUT),
        ),
    ]
    for measure, direct in pairs:
        assert measure(features, responses).score == pytest.approx(direct.score, abs=1e-12)


def test_pixels_are_no_layer():
    assert layer_depths(["pixels", "a", "b", "c"]) == {"pixels": None, "a": 0, "b": 0.5, "c": 1}
    results = Results("m")
    rows = [LayerScore("pixels", None, Score(0.1, 0.0, np.zeros(1)))]
    rows.append(LayerScore("a", 0.0, Score(0.5, 0.1, np.zeros(1))))
    add_depth(results, {"V4": rows}, "monkeys", "pls")
    (curve,) = results.extra["depth"].values()
    assert [row["layer"] for row in curve] == ["a"]
    assert results.extra["pixels"] == {"V4 · monkeys · pls": {"score": 0.1, "error": 0.0}}


def test_results_keep_what_other_calls_added(tmp_path):
    first, second = Results("m"), Results("m")
    for fresh, region, layer in ((first, "V4", "a"), (second, "IT", "b")):
        add_choice(fresh, {region: layer}, "monkeys", "pls")
        fresh.extra["depth"] = {region: [{"layer": layer}]}
        fresh.add([Record("brain", "monkeys", "pls", 0.5, settings={"layer": layer})])
        store(fresh, tmp_path, Provenance(kind="brain layers", model="m", when=layer))
    kept = Results.read(tmp_path)
    assert set(kept.extra["depth"]) == {"V4", "IT"}
    assert {r.settings["layer"] for r in kept.find(metric="pls")} == {"a", "b"}
    choice = read_choice(tmp_path)
    assert choice["V4"] == {"layer": "a", "assembly": "monkeys", "metric": "pls"}
    assert read_choice(tmp_path / "nothing") == {}
