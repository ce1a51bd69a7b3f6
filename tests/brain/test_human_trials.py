"""People's trials: read, compared with a model's choices, and which cue answers follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import vitreous.brain as brain
from vitreous import load_model, save_model
from vitreous.brain import cues, human_trials, stimuli
from vitreous.cli import main
from vitreous.data.stores import FileImages
from vitreous.errors import VitreousError
from vitreous.results import Results, wilson_interval


def test_human_trials_and_their_consistency(tmp_path):
    head = "subj,Session,trial,rt,object_response,category,condition,imagename\n"
    answers = {"subject-01": "cat dog car car", "subject-02": "cat cat car dog"}
    truths = ("cat", "dog", "car", "dog")
    for person, given in answers.items():
        rows = [
            f"{person},1,{i},0.5,{answer},{truth},c{i % 2},"
            f"{i:04d}_ex_{person[-3:]}_c{i % 2}_{truth}_10_n{i}_{i}.png\n"
            for i, (answer, truth) in enumerate(zip(given.split(), truths))
        ]
        (tmp_path / f"{person}.csv").write_text(head + "".join(rows))
    trials = human_trials.read_human_trials(tmp_path)
    assert len(trials.names) == 4 and trials.subjects == ("subject-01", "subject-02")
    assert trials.correct.sum(axis=1).tolist() == [3, 3]
    names = [f"{i:04d}_ex_dnn_c{i % 2}_{t}_10_n{i}_{i}" for i, t in enumerate(truths)]
    seen = stimuli.named_stimuli(FileImages(tmp_path, names), names)
    said = human_trials.align_answers(trials, seen, ["cat", "dog", "car", "car"])
    right = said == np.array(trials.categories)
    few = trials.among({"dog"})
    assert set(few.categories) == {"dog"}
    assert few.answers.tolist() == [["dog", "car"], ["cat", "dog"]]
    assert few.correct.tolist() == [[1, 0], [0, 1]]
    score = brain.error_consistency(right, trials.correct)
    assert score.raw[0, 0] == 1  # wrong on the same picture as the first subject
    assert score.raw[1, 0] == pytest.approx((0.5 - 0.625) / 0.375)
    with pytest.raises(VitreousError, match="1 of 4 images of the trials are missing"):
        missing = stimuli.named_stimuli(FileImages(tmp_path, names[:3]), names[:3])
        human_trials.align_answers(trials, missing, ["cat"] * 3)


def test_an_image_called_by_its_cues_is_the_same_for_all_and_in_the_folder():
    told = ["0001_s5n_s01_0_bird_00_bird3-clock2.png", "0977_s5n_s07_0_bird_00_bird3-clock2.png"]
    assert {human_trials.image_id(name) for name in told} == {"bird3-clock2"}
    assert human_trials.image_id("bird3-clock2.png") == "bird3-clock2"
    other = human_trials.image_id("0001_cl_s01_cr_bear_40_n02134084_5274.png")
    assert other == "cr_bear_40_n02134084_5274"


def test_shape_bias_counts_decided_answers_of_conflicting_images():
    names = ["cat1-dog2", "dog1-cat1", "car3-dog1", "car1-car2", "owl1-dog1"]
    people = np.array(
        [
            ["cat", "dog", "dog", "car", "owl"],  # shape, shape, texture, no conflict, shape
            ["dog", "", "owl", "car", "owl"],  # texture, unseen, neither, no conflict, shape
        ]
    )
    found = cues.shape_bias(names, people, resamples=200)
    assert (found.shape, found.texture, found.images) == (4, 2, 4)
    assert found.share == pytest.approx((3 / 4 + 1 / 2) / 2), "the mean of each subject's share"
    assert found.interval[0] < found.share < found.interval[1]
    few = cues.shape_bias(names, people[0], among=["cat", "dog"])
    assert (few.shape, few.texture, few.images) == (2, 0, 2)
    assert few.interval == pytest.approx(wilson_interval(2, 2))
    assert cues.shape_bias(["bear_40_n02134084_5274"], np.array(["bear"])) is None
    assert cues.shape_bias(names[3:4], np.array(["car"])) is None


def test_a_model_of_some_of_imagenets_classes_decides_among_their_categories(tmp_path):
    for index, shade in enumerate((60, 200)):
        Image.new("RGB", (32, 32), (shade, 90, 90)).save(tmp_path / f"{index}.png")
    images = stimuli.read_stimuli(tmp_path)
    # A black stork, a German shepherd and a Chihuahua (no category), by their WordNet ids.
    names = ["n02002724", "n02106662", "n02085620"]
    model = load_model("vit_tiny_patch16_224", pretrained=False, image_size=32, num_classes=3)
    model.class_names = names
    assert human_trials.categories_of(model) == {"bird": [0], "dog": [1]}
    with torch.no_grad():
        model.net.head.weight.zero_()
        model.net.head.bias.copy_(torch.tensor([1.0, 2.0, 9.0]))
    assert set(human_trials.decide(model, images)) == {"dog"}, "of those that have a category"
    model.class_names = ["n02085620", "n02002724", "n01443537"]
    with pytest.raises(VitreousError, match="belong to 1 of the 16 categories"):
        human_trials.categories_of(model)
    model.class_names = ["heron", "dog", "cat"]
    with pytest.raises(VitreousError, match="or some of them named by their WordNet ids"):
        human_trials.categories_of(model)


def test_the_command_tells_shape_bias_of_a_model_of_some_classes(tmp_path, capsys):
    names = ["bird1-dog2", "dog1-bird1", "dog2-truck3", "truck1-dog3"]
    rows = {"subject-01": "bird dog dog truck", "subject-02": "dog dog truck truck"}
    for folder in ("human", "images", "model"):
        (tmp_path / folder).mkdir()
    for name in names:
        Image.new("RGB", (32, 32), (90, 60, 90)).save(tmp_path / "images" / f"{name}.png")
    for person, given in rows.items():
        lines = [
            f"{person},1,{i},1,{answer},{name.split('1')[0].split('2')[0]},0,"
            f"{i:04d}_s5n_s{person[-2:]}_0_x_00_{name}.png"
            for i, (name, answer) in enumerate(zip(names, given.split()))
        ]
        head = "subj,session,trial,rt,object_response,category,condition,imagename"
        (tmp_path / "human" / f"{person}.csv").write_text("\n".join([head, *lines]) + "\n")
    ids = ["n02002724", "n02106662"]  # a black stork, a German shepherd: it always says dog
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, image_size=32, num_classes=2, class_names=ids
    )
    with torch.no_grad():
        model.net.head.weight.zero_()
        model.net.head.bias.copy_(torch.tensor([0.0, 1.0]))
    save_model(model, tmp_path / "model")
    command = ["brain", "behaviour", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    command += ["--cache", str(tmp_path / "cache"), "--human", str(tmp_path / "human")]
    assert main([*command, "--stimuli", str(tmp_path / "images")]) == 0
    assert "shape_bias: raw 0.500" in capsys.readouterr().out
    found = {r.metric: r for r in Results.read(tmp_path / "out").records}
    assert (found["shape_bias"].value, found["shape_bias"].n) == (0.5, 2)
    assert found["human_shape_bias"].value == 0.75, "of the images of both birds and dogs"
    assert (found["accuracy_16"].value, found["accuracy_16"].n) == (pytest.approx(2 / 3), 3)
    assert {r.settings["categories"] for r in found.values()} == {2}
