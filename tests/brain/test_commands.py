"""`vitreous brain` from the command line: recordings held out, stored choices, names, refusals."""

from __future__ import annotations

import hashlib
import os
import zipfile

import numpy as np
import pytest
import xarray
from PIL import Image

from vitreous.brain import benchmarks
from vitreous.cli import main
from vitreous.commands.brain.exporting import training_data
from vitreous.results import Results

MODEL = ["vit_tiny_patch16_224", "--no-pretrained", "--image-size", "32"]


@pytest.fixture
def macaque(tmp_path):
    """Two sessions in the layout of the macaque V4 data: neurons that see coarse brightness."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "macaque"
    folder.mkdir()
    for session in ("1", "2"):
        pixels = generator.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
        with zipfile.ZipFile(folder / f"images_{session}.zip", "w") as archive:
            for index, small in enumerate(pixels):
                file = tmp_path / "one.png"
                Image.fromarray(small).resize((32, 32), Image.Resampling.NEAREST).save(file)
                archive.write(file, f"image{index:04d}.png")
        signal = pixels.reshape(60, -1) / 255.0 @ generator.standard_normal((48, 6))
        raw = signal.T[:, :, None] + 0.3 * generator.standard_normal((6, 60, 4))
        np.save(folder / f"responses_raw_{session}.npy", raw)
    return folder


def run(*command, to):
    place = ["--out", str(to / "out"), "--cache", str(to / "cache"), "--no-rdms"]
    return main(["brain", command[0], *MODEL, *command[1:], *place])


def test_the_recording_held_out_is_what_is_reported(macaque, tmp_path, capsys):
    session = ["--assembly", str(macaque), "--session", "1", "--components", "10"]
    layers = ["--layers", "pixels", "blocks.0", "blocks.3"]
    assert run("layers", *session, *layers, "--report-session", "2", to=tmp_path) == 0
    results = Results.read(tmp_path / "out")
    assert {r.dataset for r in results.records} == {"macaque-v4-2"}
    raw = results.find(convention="raw")[0]
    assert raw.settings["assembly"] == "macaque-v4-2" and raw.provenance.kind == "brain layers"
    assert raw.settings["chosen_on"] == "macaque-v4-1" and raw.provenance.fingerprint
    assert "was chosen on macaque-v4-1" in capsys.readouterr().out
    # `score` takes the stored choice, and says on what it was made; another layer keeps its own.
    other = ["--assembly", str(macaque), "--session", "2", "--components", "10"]
    assert run("score", *other, to=tmp_path) == 0
    again = Results.read(tmp_path / "out").find(convention="raw")
    assert [r.settings["layer"] for r in again] == [raw.settings["layer"]]
    assert again[0].provenance.kind == "brain score" and again[0].value == raw.value
    assert run("score", *other, "--layers", "V4=blocks.1", to=tmp_path) == 0
    by_layer = {
        r.settings["layer"]: r for r in Results.read(tmp_path / "out").find(convention="raw")
    }
    assert set(by_layer) == {raw.settings["layer"], "blocks.1"}
    assert by_layer["blocks.1"].settings["chosen_on"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no layer for V4: give --layers LAYER, or let `vitreous brain layers` choose"),
        (("--alpha", "2"), "--alpha is for --metric ridge, not pls"),
        (("--metric", "rdm", "--biased"), "--biased is for --metric cka, not rdm"),
        (("--folds", "5", "--splits", "3"), "--folds holds out every image once"),
        (("--train-size", "90"), "expected above 0 and below 1, found 90"),
        (("--layers", "IT=blocks.1"), "names region 'IT'; expected one of V4"),
        (("--layers", "blocks.*"), "matches 12 layers"),
        (("--session", ""), "give --session, one of 1, 2"),
        (("--assembly", "Rajalingham2018"), "vitreous brain behaviour MODEL --trials Rajal"),
        (("--assembly", "MajajHong2015.public", "--region", "V4"), "load it once with brainscore"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_is_told_in_a_line(macaque, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setenv("BRAINIO_HOME", str(tmp_path / "nothing"))
    layers = () if "--layers" in options or not options else ("--layers", "blocks.1")
    given = ["--assembly", str(macaque), "--session", "1", *options, *layers]
    assert run("score", *given, to=tmp_path) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_a_netcdf_file_is_scored_as_the_readme_says(tmp_path, capsys):
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for index in range(40):
        values = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(images / f"p{index:02d}.png")
    data = generator.standard_normal((80, 4))
    names = [f"p{i:02d}" for i in range(40)] * 2
    coords = {
        "stimulus_id": ("presentation", names),
        "repetition": ("presentation", [0] * 40 + [1] * 40),
        "region": ("neuroid", ["V4", "V4", "V4", "IT"]),
    }
    file = tmp_path / "file.nc"
    xarray.DataArray(data, dims=("presentation", "neuroid"), coords=coords).to_netcdf(file)
    given = ["--assembly", str(file), "--layers", "V4=blocks.1", "--region", "V4"]
    assert run("score", *given, to=tmp_path) == 1
    assert "needs its images: give --stimuli" in capsys.readouterr().err
    metric = ["--metric", "ridge", "--alpha", "1", "100", "--folds", "4"]
    assert run("score", *given, "--stimuli", str(images), *metric, to=tmp_path) == 0
    (raw,) = Results.read(tmp_path / "out").find(convention="raw")
    assert raw.n == 3 and raw.metric == "ridge"
    assert raw.settings["alpha"] == "1, 100" and raw.settings["splits"] == "4 folds, seed 1"
    # Another recording of the same name does not take its place.
    other = tmp_path / "other" / "file.nc"
    other.parent.mkdir()
    xarray.DataArray(data[:, ::-1], dims=("presentation", "neuroid"), coords=coords).to_netcdf(
        other
    )
    given[1] = str(other)
    assert run("score", *given, "--stimuli", str(images), *metric, to=tmp_path) == 0
    both = Results.read(tmp_path / "out").find(convention="raw")
    assert {record.source for record in both} == {str(file), str(other)}
    assert raw.value in {record.value for record in both}


def test_choices_of_people_are_reached_by_name(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    objects = ["cat", "dog", "owl"]
    cache = tmp_path / "brainio"

    def keep(content: bytes, name: str) -> str:
        sha1 = hashlib.sha1(content).hexdigest()
        (cache / sha1).mkdir(parents=True, exist_ok=True)
        (cache / sha1 / name).write_bytes(content)
        return sha1

    files = {}
    for access, n in (("public", 24), ("private", 12)):
        archive, rows, trials = tmp_path / "a.zip", [], []
        with zipfile.ZipFile(archive, "w") as opened:
            for i in range(n):
                file = tmp_path / f"{access}{i}.png"
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
                opened.write(file, file.name)
                shown, easy = objects[i % 3], generator.uniform(0.4, 1)
                rows.append(f"{access}{i},{file.name},{shown}")
                for other in [o for o in objects if o != shown] * 30:
                    right = generator.random() < easy
                    trials.append((f"{access}{i}", shown, other, shown if right else other))
        names = ("stimulus_id", "sample_obj", "dist_obj", "choice")
        columns = {k: ("presentation", list(v)) for k, v in zip(names, zip(*trials))}
        choices = columns.pop("choice")[1]
        netcdf = tmp_path / "trials.nc"
        xarray.DataArray(choices, dims="presentation", coords=columns).to_netcdf(netcdf)
        table = "stimulus_id,filename,image_label\n" + "\n".join(rows) + "\n"
        files[access] = benchmarks.Files(
            keep(netcdf.read_bytes(), "trials.nc"),
            keep(table.encode(), "stimuli.csv"),
            keep(archive.read_bytes(), "stimuli.zip"),
        )
    fake = benchmarks.Benchmark("Rajalingham2018", (), 8.0, None, None, files)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "Rajalingham2018", fake)
    monkeypatch.setenv("BRAINIO_HOME", str(cache))
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    asked = ["--trials", "Rajalingham2018.private", "--layer", "blocks.2"]
    assert main(["brain", "behaviour", *MODEL, *asked, *place]) == 0, capsys.readouterr().err
    (raw,) = Results.read(tmp_path / "out").find(metric="i2n", convention="raw")
    assert raw.dataset == "Rajalingham2018.private" and raw.n == 12 and raw.ci95 is not None
    assert main(["brain", "behaviour", *MODEL, *asked[:2], *place]) == 1
    assert "needs --layer" in capsys.readouterr().err


def test_given_matrices_are_compared_with_an_interval(tmp_path, capsys):
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for index in range(50):
        values = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(values).save(images / f"p{index:02d}.png")
    np.save(tmp_path / "it.npy", 1 - np.corrcoef(generator.standard_normal((50, 9))))
    given = ["--stimuli", str(images), "--rdms", str(tmp_path / "it.npy")]
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    layers = ["--layers", "pixels", "blocks.0"]
    assert main(["brain", "similarity", *MODEL, *given, *layers, *place]) == 0
    results = Results.read(tmp_path / "out")
    records = results.find(metric="rdm")
    assert [r.settings["layer"] for r in records] == ["pixels", "blocks.0"]
    assert all(r.settings["region"] == r.settings["assembly"] == "it" for r in records)
    assert all(r.ci95[0] < r.value < r.ci95[1] for r in records)


def test_restart_and_check_content_reach_the_activations(tmp_path):
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for index in range(6):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{index}.png")
    np.save(tmp_path / "it.npy", 1 - np.corrcoef(generator.standard_normal((6, 9))))
    given = ["--stimuli", str(images), "--rdms", str(tmp_path / "it.npy"), "--layers", "pixels"]
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]

    def score(*options: str) -> float:
        assert main(["brain", "similarity", *MODEL, *given, *place, *options]) == 0
        (record,) = Results.read(tmp_path / "out").find(metric="rdm")
        return record.value

    value = score()
    (stored,) = (tmp_path / "cache").rglob("*.npy")
    kept = np.load(stored)
    np.save(stored, generator.standard_normal(kept.shape, dtype=np.float32))
    assert score() != value  # what is stored is used
    assert score("--restart") == value
    np.testing.assert_array_equal(np.load(stored), kept)
    # By content a file that was only touched is the same; by time it is another.
    assert score("--check-content") == value
    folders = set((tmp_path / "cache").iterdir())
    os.utime(images / "0.png", ns=(1, 1))
    assert score("--check-content") == value
    assert set((tmp_path / "cache").iterdir()) == folders
    score()
    assert len(set((tmp_path / "cache").iterdir()) - folders) == 1


def test_training_data_is_what_the_recipe_says():
    recipe = {
        "model": {"name": "vit_base_patch16_224.augreg"},
        "data": {"name": "folders", "images": "/home/someone/sets/photos/train"},
    }
    text = "folders (photos/train), from vit_base_patch16_224.augreg"
    assert training_data(recipe) == text
    fresh = {"model": {"name": "vit_tiny", "pretrained": False}, "data": {"name": "generated"}}
    assert training_data(fresh) == "generated, from random weights"
    assert "someone" not in text
