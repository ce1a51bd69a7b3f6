"""Brain data: activations, recordings, layer choice, people's trials, and the exported plugin."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from PIL import Image
from sklearn.decomposition import PCA

import vitreous.brain as brain
from vitreous import Classifier
from vitreous.brain import activations, benchmarks, readers, scoring, stimuli
from vitreous.brain.activations import Extraction, extract
from vitreous.brain.recordings import Recording, gather_repetitions, make_assembly
from vitreous.brain.reduce import fit_components
from vitreous.cli import main
from vitreous.errors import VitreousError
from vitreous.models import Preprocessing
from vitreous.results import Results


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        values = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"p{index:02d}.png")
    return stimuli.read_stimuli(folder)


@pytest.fixture
def model():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2)),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    )
    return Classifier(net, name="small", preprocessing=Preprocessing(size=(16, 16)))


def image_files(images: stimuli.Stimuli) -> list[str]:
    """The files of images of a folder."""
    return [str(images.dataset.images.images.path(i)) for i in range(len(images))]


def test_activations_are_the_layers_outputs(model, images, tmp_path):
    model.train()
    found = extract(model, images, ["pixels", "0", "2.*", "4"], tmp_path, Extraction(5))
    assert list(found) == ["pixels", "0", "2.0", "2.1", "4"]
    assert model.training and not any(m._forward_hooks for m in model.modules())
    prepared = torch.stack([activations.prepare(images.open(i), model, None, 8) for i in range(12)])
    model.eval()
    with torch.inference_mode():
        normal = (prepared - model.mean) / model.std
        np.testing.assert_allclose(found["0"], model.net[0](normal).flatten(1), atol=1e-5)
        np.testing.assert_allclose(found["4"], model(prepared), atol=1e-5)
    np.testing.assert_array_equal(found["pixels"], prepared.flatten(1))


def test_interrupted_activations_go_on_where_they_were(model, images, tmp_path, monkeypatch):
    whole = extract(model, images, ["2"], tmp_path / "whole", Extraction(4))["2"]
    opened: list[int] = []
    read = stimuli.Stimuli.open

    def counting(self, index):
        if len(opened) == 6:
            raise KeyboardInterrupt
        opened.append(index)
        return read(self, index)

    monkeypatch.setattr(stimuli.Stimuli, "open", counting)
    with pytest.raises(KeyboardInterrupt):
        extract(model, images, ["2"], tmp_path / "parts", Extraction(4))
    opened.clear()
    monkeypatch.setattr(stimuli.Stimuli, "open", lambda s, i: (opened.append(i), read(s, i))[1])
    resumed = extract(model, images, ["2"], tmp_path / "parts", Extraction(4))["2"]
    assert opened == list(range(4, 12))  # the first batch was kept
    np.testing.assert_allclose(resumed, whole, atol=1e-6)
    opened.clear()
    extract(model, images, ["2"], tmp_path / "parts", Extraction(4))
    assert opened == []


def test_nothing_stale_is_reused(model, images, tmp_path):
    def key(settings=None):
        return activations.cache_key(model, images, settings or Extraction())

    first = key()
    assert key() == first == key(Extraction(batch_size=3))
    others = {key(Extraction(degrees=4)), key(Extraction(storage="float16"))}
    model.mean += 0.1
    others.add(key())
    model.mean -= 0.1
    with torch.no_grad():
        model.net[4].bias[0] += 1e-6
    others.add(key())
    Image.new("RGB", (20, 20)).save(image_files(images)[3])
    others.add(key())
    assert len(others | {first}) == 6


def test_visual_degrees_pad_with_grey_or_crop_the_centre():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    padded = np.asarray(stimuli.place_in_view(image, 4, 8))
    assert padded.shape == (80, 120, 3)
    np.testing.assert_array_equal(padded[20:60, 30:90], np.asarray(image))
    assert (padded[:20] == 128).all() and (padded[:, 90:] == 128).all()
    cropped = np.asarray(stimuli.place_in_view(image, 8, 4))
    np.testing.assert_array_equal(cropped, np.asarray(image)[10:30, 15:45])
    assert stimuli.place_in_view(image, None, 8) is image


def test_principal_components_are_sklearns():
    generator = np.random.default_rng(0)
    fitting, others = generator.standard_normal((2, 30, 200))
    components = fit_components(fitting, 10)
    expected = PCA(10, svd_solver="full").fit(fitting)
    np.testing.assert_allclose(
        np.abs(components.project(others)), np.abs(expected.transform(others)), atol=1e-8
    )
    assert fit_components(fitting[:, :8], 10) is None


def long_assembly():
    """Two regions, five pictures, three repetitions of which one trial is missing."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((5, 4, 3))
    names = np.array([f"p{i:02d}" for i in (3, 1, 0, 4, 2)])
    keep = [(i, r) for r in range(3) for i in range(5) if (i, r) != (2, 1)]
    data = np.stack([values[i, :, r] for i, r in keep])
    coords = {
        "stimulus_id": ("presentation", [names[i] for i, _ in keep]),
        "object_name": ("presentation", [f"o{i % 2}" for i, _ in keep]),
        "repetition": ("presentation", [r for _, r in keep]),
        "region": ("neuroid", ["V4", "IT", "V4", "IT"]),
        "neuroid_id": ("neuroid", list("abcd")),
    }
    values[2, :, 1] = np.nan
    return xarray.DataArray(data, dims=("presentation", "neuroid"), coords=coords), values, names


def test_netcdf_assemblies_come_back_with_repetitions(tmp_path):
    assembly, values, names = long_assembly()
    assembly.expand_dims(time_bin=2).assign_coords(
        time_bin_start=("time_bin", [0, 50]), time_bin_end=("time_bin", [50, 200])
    ).to_netcdf(tmp_path / "recording.nc")
    found = readers.read_netcdf(tmp_path / "recording.nc", (50, 200))
    recording = Recording("r", found, group="object_name")
    assert recording.names == list(names) and recording.regions == ["IT", "V4"]
    part = recording.select("IT")
    np.testing.assert_allclose(part.trials(), values[:, [1, 3]].transpose(2, 0, 1))
    np.testing.assert_allclose(part.responses(), np.nanmean(values[:, [1, 3]], axis=2))
    assert list(recording.groups()) == ["o0", "o1", "o0", "o1", "o0"]
    with pytest.raises(VitreousError, match="2 time bins"):
        readers.read_netcdf(tmp_path / "recording.nc")
    with pytest.raises(VitreousError, match="region 'VI'; did you mean"):
        recording.select("VI")


def test_named_benchmarks_check_the_file(tmp_path):
    assembly, *_ = long_assembly()
    file = tmp_path / "MajajHong2015.public.nc"
    assembly.to_netcdf(file)
    with pytest.raises(VitreousError, match=r"has SHA-1 \w{40}, expected 13d28ca0"):
        benchmarks.load_recording("MajajHong2015.public", assembly=file, stimuli=tmp_path)
    with pytest.raises(VitreousError, match="load it once with brainscore-vision"):
        benchmarks.load_recording("MajajHong2015.public", home=tmp_path)
    with pytest.raises(VitreousError, match="did you mean 'MajajHong2015'"):
        benchmarks.load_recording("MajajHong2014.public")


def test_cached_benchmarks_are_read_whole(tmp_path, monkeypatch, images):
    import hashlib

    assembly, values, _ = long_assembly()
    contents = {}
    assembly.to_netcdf(tmp_path / "a.nc")
    contents["assembly"] = (tmp_path / "a.nc").read_bytes()
    rows = "".join(f"{n},{Path(f).name}\n" for n, f in zip(images.names, image_files(images)))
    contents["table"] = f"stimulus_id,filename\n{rows}".encode()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in image_files(images):
            archive.write(file, Path(file).name)
    contents["archive"] = (tmp_path / "a.zip").read_bytes()
    hashes = {k: hashlib.sha1(v).hexdigest() for k, v in contents.items()}
    for name, value in contents.items():
        folder = tmp_path / "cache" / hashes[name]
        folder.mkdir(parents=True)
        (folder / name).write_bytes(value)
    files = {"public": benchmarks.Files(**hashes)}
    fake = benchmarks.Benchmark("MajajHong2015", ("V4", "IT"), 8.0, "object_name", None, files)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "MajajHong2015", fake)
    monkeypatch.setenv("BRAINIO_HOME", str(tmp_path / "cache"))
    found = benchmarks.load_recording("MajajHong2015.public")
    assert found.images().open(0).size == (24, 20) and found.images().degrees == 8.0
    np.testing.assert_allclose(found.responses(), np.nanmean(values, axis=2))


def test_arrays_with_tables(tmp_path, images):
    values = np.random.default_rng(0).standard_normal((12, 3))
    np.save(tmp_path / "r.npy", values)
    order = images.names[::-1]
    table = "stimulus_id,object_name\n" + "".join(f"{n},o{i % 2}\n" for i, n in enumerate(order))
    (tmp_path / "t.csv").write_text(table)
    folder = Path(image_files(images)[0]).parent
    found = readers.read_arrays(
        tmp_path / "r.npy", tmp_path / "t.csv", stimuli=folder, group="object_name"
    )
    assert found.images().names == images.names[::-1] and found.ceiling() is None
    (tmp_path / "t.csv").write_text(table.replace("p03", "p30"))
    with pytest.raises(VitreousError, match="1 of 12 stimulus ids have no picture, first 'p30'"):
        readers.read_arrays(tmp_path / "r.npy", tmp_path / "t.csv", stimuli=folder)
    (tmp_path / "t.csv").write_text(table.replace("p03", "p04"))
    with pytest.raises(VitreousError, match="occur more than once, first 'p04'"):
        readers.read_arrays(tmp_path / "r.npy", tmp_path / "t.csv", stimuli=folder)
    with pytest.raises(VitreousError, match="5 stimulus ids, 12 rows of responses"):
        make_assembly(values, order[:5])


def test_repeated_stimuli_need_a_repetition():
    assembly, *_ = long_assembly()
    with pytest.raises(VitreousError, match="occur more than once"):
        gather_repetitions(assembly.drop_vars("repetition"))
    same = assembly.assign_coords(repetition=("presentation", [0] * 14))
    with pytest.raises(VitreousError, match="twice in one repetition"):
        gather_repetitions(same)


@pytest.fixture
def macaque(tmp_path):
    """A session in the layout of the macaque V4 data: neurons that see coarse brightness."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    folder = tmp_path / "macaque"
    folder.mkdir()
    with zipfile.ZipFile(folder / "images_1.zip", "w") as archive:
        for index, small in enumerate(pixels):
            file = tmp_path / "one.png"
            Image.fromarray(small).resize((32, 32), Image.Resampling.NEAREST).save(file)
            archive.write(file, f"image{index:04d}.png")
    flat = pixels.reshape(60, -1) / 255.0
    signal = flat @ generator.standard_normal((48, 6))
    raw = signal.T[:, :, None] + 0.3 * generator.standard_normal((6, 60, 4))
    raw[:, ::7, 3] = np.nan
    np.save(folder / "responses_raw_1.npy", raw)
    np.save(folder / "responses_avg_1.npy", np.nanmean(raw, axis=2))
    return folder


def test_layers_are_scored_chosen_and_stored(macaque, tmp_path, capsys):
    arguments = ["vit_tiny_patch16_224", "--no-pretrained", "--image-size", "32"]
    recording = ["--assembly", str(macaque), "--session", "1"]
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    asked = ["--layers", "pixels", "blocks.0", "blocks.11", "--components", "10"]
    assert main(["brain", "layers", *arguments, *recording, *asked, *place]) == 0
    results = Results.read(tmp_path / "out")
    curve = "V4 · macaque-v4-1 · pls"
    rows = results.extra["depth"][curve]
    assert [row["layer"] for row in rows] == ["blocks.0", "blocks.11"]  # pixels are no layer
    assert [row["depth"] for row in rows] == [0, 1]
    pixels = results.extra["pixels"][curve]["score"]
    (raw,) = results.find(metric="pls", convention="raw")
    best = max([*rows, {"layer": "pixels", "score": pixels}], key=lambda row: row["score"])
    assert raw.settings["layer"] == best["layer"] and raw.value == best["score"]
    assert (tmp_path / "out" / "score_by_depth.png").exists()
    (ceiling,) = results.find(metric="internal_consistency")
    assert 0.9 < ceiling.value < 1
    (published,) = results.find(metric="pls", convention="brainscore_2022")
    assert published.value == pytest.approx((raw.value / ceiling.value) ** 2)
    (current,) = results.find(metric="pls", convention="brainscore_2026")
    assert current.value == pytest.approx(raw.value**2 / ceiling.value)
    assert results.extra["brain_reference"]["CrossViT-18† + both"]["V4"] == 0.514
    assert len(results.extra["rdms"]["macaque-v4-1 V4"]) == 60
    printed = capsys.readouterr().out
    assert f"{raw.value:.3f}" in printed and "was chosen on this recording" in printed
    wrong = ["--layers", "bloks.1", *place]
    assert main(["brain", "score", *arguments, *recording, *wrong]) == 1
    message = capsys.readouterr().err
    assert "unknown layer 'bloks.1'" in message and "did you mean 'blocks.1" in message


def test_scores_are_those_of_the_arrays(macaque, model, tmp_path):
    recording = readers.read_macaque(macaque, "1")
    found = scoring.score_layers(
        model, recording, ["pixels"], tmp_path, measure=brain.Measure("ridge")
    )
    images = [activations.prepare(recording.images().open(i), model, None, 8) for i in range(60)]
    features = torch.stack(images).flatten(1).numpy()
    direct = brain.ridge_predictivity(features, recording.responses())
    assert found["V4"][0].score.score == pytest.approx(direct.score, abs=1e-9)
    with pytest.raises(VitreousError, match="no session '2'"):
        readers.read_macaque(macaque, "2")
    reduction = scoring.Reduction(recording.images(), 20)
    reduced = scoring.score_layers(
        model,
        recording,
        ["pixels"],
        tmp_path,
        measure=brain.Measure("ridge"),
        reduction=reduction,
    )
    components = PCA(20, svd_solver="full").fit_transform(features.astype(np.float64))
    direct = brain.ridge_predictivity(components, recording.responses())
    assert reduced["V4"][0].score.score == pytest.approx(direct.score, abs=1e-6)


def test_readout_tells_separated_objects_apart():
    generator = np.random.default_rng(0)
    centres = 5 * generator.standard_normal((3, 40))
    labels = np.array(["dog", "cat", "owl"])[np.arange(90) % 3]
    features = centres[np.arange(90) % 3] + generator.standard_normal((90, 40))
    found, names = brain.readout_probabilities(features[:60], labels[:60], features[60:])
    assert names == ["cat", "dog", "owl"]
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (np.array(names)[found.argmax(axis=1)] == labels[60:]).all()
    with pytest.raises(VitreousError, match="60 images with 59 labels"):
        brain.readout_probabilities(features[:60], labels[:59], features[60:])


def test_behaviour_is_scored_from_the_command_line(images, tmp_path, capsys):
    generator = np.random.default_rng(0)
    objects = ["cat", "dog", "owl"]
    truth = {name: objects[i % 3] for i, name in enumerate(images.names)}
    rows = []
    for _ in range(40):
        for name, shown in truth.items():
            other = generator.choice([o for o in objects if o != shown])
            rows.append(f"{name},{shown},{other},{shown if generator.random() < 0.7 else other}")
    (tmp_path / "trials.csv").write_text(
        "\n".join(["stimulus_id,truth,distractor,choice", *rows]) + "\n"
    )
    labels = "".join(f"{name},{shown}\n" for name, shown in truth.items())
    (tmp_path / "fit.csv").write_text("stimulus_id,image_label\n" + labels)
    (tmp_path / "human").mkdir()
    for person in ("a", "b"):
        answers = "".join(
            f"{person},1,1,0.5,{generator.choice(['dog', 'cat'])},dog,c,{name}.png\n"
            for name in truth
        )
        head = "subj,Session,trial,rt,object_response,category,condition,imagename\n"
        (tmp_path / "human" / f"{person}.csv").write_text(head + answers)
    folder = str(Path(image_files(images)[0]).parent)
    command = ["brain", "behaviour", "vit_tiny_patch16_224", "--no-pretrained"]
    command += ["--image-size", "32", "--stimuli", folder, "--out", str(tmp_path / "out")]
    command += ["--cache", str(tmp_path / "cache")]
    fit = ["--fit-stimuli", folder, "--fit-table", str(tmp_path / "fit.csv")]
    trials = ["--trials", str(tmp_path / "trials.csv"), "--layer", "blocks.11"]
    assert main([*command, *trials, *fit]) == 0
    assert main([*command, "--human", str(tmp_path / "human")]) == 0
    results = Results.read(tmp_path / "out")
    (raw,) = results.find(metric="i2n", convention="raw")
    (ceiling,) = results.find(metric="i2n_ceiling")
    assert -1 <= raw.value <= 1 and ceiling.value > 0
    (accuracy,) = results.find(metric="accuracy_16")
    assert 0 <= accuracy.value <= 1 and results.find(metric="error_consistency")
    for record in results.find(suite="brain"):
        named = record.settings
        assert named["assembly"] == record.dataset and named["region"] == "behaviour"
        assert named["convention"] and ("layer" in named or named["convention"] == "ceiling")
        # Of twelve images some samples have no positive ceiling: that interval is not bounded.
        bounded = named["convention"] != "brainscore_2022" and np.isfinite(record.value)
        assert (record.ci95 is not None) == bounded, record
    assert "human_error_consistency: ceiling" in capsys.readouterr().out
