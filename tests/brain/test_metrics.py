"""Brain metrics: Brain-Score's own numbers, other libraries at a tight tolerance, and bad input."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold

import vitreous.brain as brain
from vitreous.brain import behaviour
from vitreous.brain.agreement import error_consistency_interval
from vitreous.brain.backend import NumpyBackend, TorchBackend, choose_backend
from vitreous.brain.pls import pls_predictions
from vitreous.brain.ridge import ridge_predictions
from vitreous.errors import VitreousError

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "brain_alignment.npz"))


@pytest.fixture(scope="module")
def double():
    """Brain-Score 2.4.2 on the same data in double precision (benchmarks/brainscore_reference)."""
    return dict(np.load(GOLDEN / "brain_alignment_double.npz"))


PREDICTIVITY = {
    "pls": brain.pls_predictivity,
    "ridge": brain.ridge_predictivity,
    "linear_predictivity": brain.linear_predictivity,
    "neuron_to_neuron": brain.one_to_one,
}


@pytest.mark.parametrize("name", PREDICTIVITY)
def test_predictivity_is_brainscores(golden, double, name):
    features = golden["features"].astype(np.float64)
    responses = golden["responses"].astype(np.float64).mean(axis=2)
    found = PREDICTIVITY[name](features, responses, golden["object_name"])
    assert found.score == pytest.approx(double[f"{name}/score"], abs=1e-8)
    assert found.error == pytest.approx(double[f"{name}/error"], abs=1e-8)
    np.testing.assert_allclose(found.raw, double[f"{name}/raw"], atol=1e-7)
    # The published file was computed in single precision, apart from PLS.
    assert found.score == pytest.approx(golden[f"{name}/score"], abs=2e-7)
    assert found.error == pytest.approx(golden[f"{name}/error"], abs=2e-7)
    np.testing.assert_allclose(found.raw, golden[f"{name}/raw"], atol=5e-6)


def test_ceiling_is_brainscores(golden, double):
    trials = golden["responses"].transpose(2, 0, 1).astype(np.float64)
    found = brain.internal_consistency(trials)
    assert found.score == pytest.approx(double["internal_consistency/score"], abs=1e-8)
    np.testing.assert_allclose(found.raw, double["internal_consistency/raw"], atol=1e-8)
    assert found.score == pytest.approx(golden["internal_consistency"], abs=2e-7)
    np.testing.assert_allclose(found.raw, golden["internal_consistency/raw"], atol=5e-7)


@pytest.mark.parametrize("name", ["rdm", "cka"])
def test_similarities_are_brainscores(golden, double, name):
    measure = {"rdm": brain.rdm_similarity, "cka": brain.cka}[name]
    features, responses = golden["features"], golden["responses"].astype(np.float64).mean(axis=2)
    whole = measure(features, responses)
    held = measure(features, responses, golden["object_name"], splits=brain.LEAVE_OUT)
    assert whole.score == pytest.approx(double[f"{name}/score"], abs=1e-8)
    assert held.score == pytest.approx(double[f"{name}_cv/score"], abs=1e-8)
    assert held.error == pytest.approx(double[f"{name}_cv/error"], abs=1e-8)
    assert whole.score == pytest.approx(golden[name], abs=1e-7)
    assert held.score == pytest.approx(golden[f"{name}_cv"], abs=1e-7)


def test_i2n_is_brainscores():
    data = np.load(GOLDEN / "behavioural_consistency.npz")
    columns = ("trial_stimulus", "trial_truth", "trial_distractor", "trial_choice")
    trials = brain.Trials(*(data[name] for name in columns))
    names = ("probabilities", "choices", "stimulus_id", "truth")
    found = brain.i2n(*(data[name] for name in names), trials)
    ceiling = brain.i2n_ceiling(trials)
    assert found.score == pytest.approx(data["score"], abs=1e-8)
    np.testing.assert_allclose(found.raw, data["score_raw"], atol=1e-8)
    assert ceiling.score == pytest.approx(data["ceiling"], abs=1e-8)
    np.testing.assert_allclose(ceiling.raw, data["ceiling_raw"], atol=1e-8)
    expected = np.mean(data["score_raw"] / np.sqrt(data["ceiling_raw"]))
    assert brain.ceiled_i2n(found, ceiling).score == pytest.approx(expected)


def random_data(n=120, units=300, neuroids=7, rank=None, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n, units))
    if rank:
        features = features[:, :rank] @ generator.standard_normal((rank, units))
    mixing = generator.standard_normal((units, neuroids)) / units**0.5
    responses = features @ mixing + generator.standard_normal((n, neuroids))
    return features, responses, np.arange(n) % 4


@pytest.mark.parametrize("units", [40, 300])
@pytest.mark.parametrize("backend", [None, TorchBackend("cpu")], ids=["numpy", "torch"])
def test_exact_pls_agrees_with_sklearn_and_ikpls(units, backend):
    from ikpls.numpy import PLS

    features, responses, groups = random_data(units=units)
    splits = brain.Splits(number=2).draw(len(features), groups)
    kernel = brain.Kernel.of(features)
    assert kernel.factored == (units == 40)
    found = pls_predictions(kernel, responses, splits, (3, 25), backend, tolerance=None)
    for (train, test), predictions in zip(splits, found):
        for count in (3, 25):
            nipals = PLSRegression(count, scale=False, tol=1e-30, max_iter=20000)
            nipals.fit(features[train], responses[train])
            np.testing.assert_allclose(
                predictions[count], nipals.predict(features[test]), atol=1e-7
            )
            improved = PLS(scale_X=False, scale_Y=False)
            improved.fit(features[train], responses[train], count)
            np.testing.assert_allclose(
                predictions[count], improved.predict(features[test], count), atol=1e-7
            )


@pytest.mark.parametrize("neuroids", [20, 200], ids=["fewer", "more-neuroids-than-images"])
def test_default_pls_stops_where_sklearn_does(neuroids):
    features, responses, groups = random_data(neuroids=neuroids)
    responses[:, 0] = 2.0  # the search starts at the first neuroid that varies
    splits = brain.Splits(number=2).draw(len(features), groups)
    found = pls_predictions(brain.gram(features), responses, splits)
    for (train, test), predictions in zip(splits, found):
        sklearn = PLSRegression(25, scale=False).fit(features[train], responses[train])
        np.testing.assert_allclose(predictions[25], sklearn.predict(features[test]), atol=1e-8)


@pytest.mark.parametrize("tolerance", [None, 1e-6])
def test_pls_of_rank_deficient_features_stops_at_the_rank(tolerance):
    features, responses, groups = random_data(rank=9)
    splits = brain.Splits(number=2).draw(len(features), groups)
    found = pls_predictions(brain.gram(features), responses, splits, (9, 25), None, tolerance)
    for (train, test), predictions in zip(splits, found):
        # With as many components as dimensions, PLS is least squares.
        design = np.linalg.pinv(features[train] - features[train].mean(axis=0), rcond=1e-10)
        weights = design @ (responses[train] - responses[train].mean(axis=0))
        centred = features[test] - features[train].mean(axis=0)
        expected = responses[train].mean(axis=0) + centred @ weights
        np.testing.assert_allclose(predictions[9], expected, atol=1e-8)
        np.testing.assert_allclose(predictions[25], expected, atol=1e-8)


def test_more_neuroids_than_pictures_are_predicted_alike():
    features, responses, groups = random_data(n=60, neuroids=200)
    splits = brain.Splits(number=1).draw(len(features), groups)
    ((train, test),) = splits
    found = pls_predictions(brain.gram(features), responses, splits, (10,), None, None)
    nipals = PLSRegression(10, scale=False, tol=1e-30, max_iter=20000)
    nipals.fit(features[train], responses[train])
    np.testing.assert_allclose(found[0][10], nipals.predict(features[test]), atol=1e-7)


@pytest.mark.filterwarnings("ignore:An input array is constant")  # SciPy's, which is the point
@pytest.mark.parametrize("metric", PREDICTIVITY.values())
def test_constant_neuroids_are_left_out_and_change_no_other(metric):
    features, responses, groups = random_data(units=130)
    with_constant = np.insert(responses, 0, 3.7, axis=1)
    plain, found = metric(features, responses, groups), metric(features, with_constant, groups)
    assert np.isnan(found.raw[:, 0]).all()
    np.testing.assert_allclose(found.raw[:, 1:], plain.raw, atol=1e-10)
    assert found.score == pytest.approx(plain.score, abs=1e-10)


def test_chosen_penalty_is_the_one_of_ridgecv():
    features, responses, groups = random_data(units=200)
    splits = brain.Splits(number=3).draw(len(features), groups)
    grid = np.geomspace(0.1, 1e5, 30)
    found, used = ridge_predictions(brain.gram(features), responses, splits, grid)
    for (train, test), predictions, penalty in zip(splits, found, used, strict=True):
        sklearn = RidgeCV(grid).fit(features[train], responses[train])
        assert penalty == pytest.approx(sklearn.alpha_)
        np.testing.assert_allclose(predictions, sklearn.predict(features[test]), atol=1e-8)


@pytest.mark.parametrize("groups", [None, np.arange(120) % 4], ids=["plain", "stratified"])
def test_folds_are_sklearns(groups):
    features, responses, _ = random_data()
    kind = KFold if groups is None else StratifiedKFold
    folds = kind(5, shuffle=True, random_state=7).split(features, groups)
    expected = []
    for train, test in folds:
        predicted = Ridge(1.0).fit(features[train], responses[train]).predict(features[test])
        r = [scipy.stats.pearsonr(p, y)[0] for p, y in zip(predicted.T, responses[test].T)]
        expected.append(np.median(r))
    splits = brain.Splits(folds=5, seed=7)
    found = brain.ridge_predictivity(features, responses, groups, splits=splits)
    assert found.score == pytest.approx(np.mean(expected))
    assert found.raw.shape == (5, 7)
    with pytest.raises(VitreousError, match="cannot split 120"):
        brain.ridge_predictivity(features, responses, splits=brain.Splits(folds=121))


def test_gram_does_not_depend_on_the_blocks(tmp_path):
    features = random_data()[0].astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    whole = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(brain.gram(mapped, block=7), whole @ whole.T, atol=1e-10)


def test_missing_repetitions_count_as_if_they_were_not_there():
    generator = np.random.default_rng(0)
    signal = generator.standard_normal((30, 4))
    trials = signal + generator.standard_normal((6, 30, 4))
    padded = np.concatenate([trials, np.full((3, 30, 4), np.nan)])
    assert brain.internal_consistency(padded).score == brain.internal_consistency(trials).score
    np.testing.assert_allclose(brain.average_trials(padded), trials.mean(axis=0))
    ragged = trials.copy()
    ragged[0, :5] = np.nan
    found = brain.internal_consistency(ragged).raw
    for row, (a, b) in zip(found, brain.Splits(train_size=0.5).draw(6)):
        r = scipy.stats.pearsonr(
            np.nanmean(ragged[a], axis=0)[:, 0], np.nanmean(ragged[b], axis=0)[:, 0]
        )[0]
        assert row[0] == pytest.approx(2 * r / (1 + r))


def test_biased_cka_is_invariant_and_one_of_itself():
    features, responses, _ = random_data(units=20)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((20, 20)))[0]
    assert brain.cka(features, 3 * features @ rotation, unbiased=False).score == pytest.approx(1)
    a, b = features - features.mean(axis=0), responses - responses.mean(axis=0)
    expected = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert brain.cka(features, responses, unbiased=False).score == pytest.approx(expected)


def test_rdm_agrees_with_rsatoolbox():
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    features, responses, _ = random_data(n=30)
    for values in (features, responses):
        expected = calc_rdm(Dataset(values), method="correlation").get_matrices()[0]
        np.testing.assert_allclose(brain.rdm(values), expected, atol=1e-10)


def test_error_consistency_is_kappa_of_correctness():
    from sklearn.metrics import cohen_kappa_score

    generator = np.random.default_rng(0)
    model, human = generator.random(200) < 0.6, (generator.random((3, 200)) < 0.7).astype(float)
    conditions = np.arange(200) % 2
    expected = [
        [cohen_kappa_score(model[conditions == c], person[conditions == c]) for c in (0, 1)]
        for person in human
    ]
    found = brain.error_consistency(model, human, conditions)
    np.testing.assert_allclose(found.raw, expected)
    assert found.score == pytest.approx(np.mean(expected))
    human[:, :10] = np.nan
    assert brain.error_consistency(model, human).raw[0, 0] == pytest.approx(
        cohen_kappa_score(model[10:], human[0, 10:])
    )


def test_people_agree_with_each_other_by_pairs():
    from sklearn.metrics import cohen_kappa_score

    human = (np.random.default_rng(0).random((3, 90)) < 0.7).astype(float)
    conditions = np.arange(90) % 2
    expected = [
        np.mean(
            [
                cohen_kappa_score(human[i, conditions == c], human[j, conditions == c])
                for c in (0, 1)
            ]
        )
        for i, j in ((1, 0), (2, 0), (2, 1))
    ]
    assert brain.consistency_of_people(human, conditions).score == pytest.approx(np.mean(expected))
    with pytest.raises(VitreousError, match="at least two subjects"):
        brain.consistency_of_people(human[:1])


def test_intervals_of_error_consistency_resample_the_images():
    generator = np.random.default_rng(0)
    widths = []
    for n in (100, 1600):
        model = generator.random(n) < 0.6
        # People who are right where the model is, but for a third of the images.
        human = np.where(generator.random((2, n)) < 0.3, generator.random((2, n)) < 0.5, model)
        low, high = error_consistency_interval(model, human, resamples=300)
        assert low < brain.error_consistency(model, human).score < high
        widths.append(high - low)
        assert error_consistency_interval(model, model[None]) == pytest.approx((1, 1))
    assert 3 < widths[0] / widths[1] < 5.5  # √16 = 4


def test_i2n_intervals_count_images_as_often_as_they_are_drawn():
    data = np.load(GOLDEN / "behavioural_consistency.npz")
    columns = ("trial_stimulus", "trial_truth", "trial_distractor", "trial_choice")
    trials = brain.Trials(*(data[name] for name in columns))
    given = [data[name] for name in ("probabilities", "choices", "stimulus_id", "truth")]
    spread = brain.i2n_intervals(*given, trials)
    assert spread.raw[0] < data["score"] < spread.raw[1]
    assert spread.ceiling[0] < data["ceiling"] < spread.ceiling[1]
    normalised = np.mean(data["score_raw"] / np.sqrt(data["ceiling_raw"]))
    assert spread.ceiled[0] < normalised < spread.ceiled[1]
    once = brain.i2n_intervals(*given, trials, repetitions=1, resamples=50)
    assert once.raw[0] < once.raw[1] and once.ceiling[0] < once.ceiling[1], "over images, not draws"
    generator = np.random.default_rng(0)
    source, target = generator.standard_normal((2, 9, 4))
    source[2, 1] = target[5, 3] = np.nan
    rows = np.array([0, 0, 2, 3, 5, 5, 5, 8, 8])
    a, b = source[rows].ravel(), target[rows].ravel()
    known = ~(np.isnan(a) | np.isnan(b))
    expected = scipy.stats.pearsonr(a[known], b[known])[0]
    counts = np.bincount(rows, minlength=9)[None].astype(float)
    assert behaviour._resampled_correlation(counts, source, target)[0] == pytest.approx(expected)


def test_both_published_conventions():
    assert brain.ceiled(0.49, 0.895, "brainscore_2022") == pytest.approx((0.49 / 0.895) ** 2)
    assert brain.ceiled(0.49, 0.895, "brainscore_2026") == pytest.approx(0.49**2 / 0.895)
    rows = brain.published()["models"]
    regions = brain.published()["regions"]
    for row in rows:  # the paper's mean column is the mean of the five
        assert np.mean([row[region] for region in regions]) == pytest.approx(row["mean"], abs=1e-3)


def test_intervals_hold_the_score_and_shrink_with_neuroids():
    generator = np.random.default_rng(0)
    widths = []
    for neuroids in (20, 500):
        score = brain.aggregate(generator.normal(0.5, 0.1, (10, neuroids)))
        low, high = score.interval("neuroids", resamples=200)
        assert low < score.score < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
    low, high = score.interval("splits", resamples=200)
    assert low < score.score < high


@pytest.mark.parametrize("over", ["splits", "neuroids"])
def test_intervals_are_those_of_samples_that_are_aggregated_one_by_one(over, monkeypatch):
    monkeypatch.setattr("vitreous.brain.score.AT_ONCE", 500)
    raw = np.random.default_rng(1).normal(0.5, 0.1, (7, 30))
    raw[np.random.default_rng(2).random(raw.shape) < 0.3] = np.nan
    draws, axis, values = np.random.default_rng(3), ["splits", "neuroids"].index(over), []
    for _ in range(100):
        drawn = np.take(raw, draws.integers(0, raw.shape[axis], raw.shape[axis]), axis)
        values.append(np.nanmean([np.median(row[~np.isnan(row)]) for row in drawn]))
    got = brain.aggregate(raw).interval(over, resamples=100, seed=3)
    assert got == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-12)


FEATURES, RESPONSES, GROUPS = random_data(n=40, units=60)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: brain.pls_predictivity(FEATURES[:30], RESPONSES), "30 rows of features, 40 rows"),
        (
            lambda: brain.pls_predictivity(FEATURES, np.where(RESPONSES > 1, np.nan, RESPONSES)),
            "NaN or infinite",
        ),
        (lambda: brain.ridge_predictivity(FEATURES, RESPONSES * 1e200), r"beyond ±1e\+75"),
        (lambda: brain.pls_predictivity(FEATURES[:20], RESPONSES[:20]), "fewer stimuli than comp"),
        (lambda: brain.pls_predictivity(FEATURES[:, :9], RESPONSES), "fewer units than components"),
        (lambda: brain.pls_predictivity(FEATURES * np.nan, RESPONSES), "features hold NaN"),
        (lambda: brain.pls_predictivity(FEATURES, RESPONSES, GROUPS[:9]), "groups: expected one"),
        (lambda: brain.ridge_predictivity(FEATURES, RESPONSES, range(40)), "cannot split 40"),
        (lambda: brain.internal_consistency(RESPONSES[None]), "at least 2 repetitions, found 1"),
        (lambda: brain.internal_consistency(RESPONSES), "repetitions × images × neuroids"),
        (lambda: brain.ceiled(0.4, 0.8, "brainscore_2025"), "did you mean 'brainscore_202"),
        (lambda: brain.ceiled(0.4, 0.0), "expected a positive consistency"),
        (lambda: brain.error_consistency(np.ones(3), np.ones((2, 4))), "images do not match"),
    ],
    ids=itertools.count(),
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(VitreousError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_has_no_double_precision_leaves_the_scores_to_the_processor():
    assert isinstance(choose_backend("mps"), NumpyBackend)  # Apple's GPUs
    assert isinstance(choose_backend("cpu"), NumpyBackend)
    assert isinstance(choose_backend("meta"), TorchBackend)
