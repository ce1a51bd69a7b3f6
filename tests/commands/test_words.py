"""Classes that are called by WordNet ids are shown with their words wherever people read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import tiny_vit
from vitreous import save_model
from vitreous.cli import main

IDS = ["n04507155", "n01440764", "n01443537"]
WORDS = ["umbrella", "tench", "goldfish"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes have ids for names, and a folder of three images for each."""
    root = tmp_path_factory.mktemp("words")
    torch.manual_seed(0)
    model = tiny_vit(3, class_names=IDS)
    torch.nn.init.normal_(model.net.head.weight, std=0.3)
    save_model(model, root / "model")
    random = np.random.default_rng(0)
    for name in IDS:
        (root / "images" / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"{number}.png")
    return root


def ids_shown(text: str) -> list[str]:
    """WordNet ids that are no folder of a file's name."""
    return re.findall(r"n\d{8}(?![\d/\\])", text)


def test_explain_answers_in_words(place, capsys):
    picture, model = place / "images" / IDS[0] / "0.png", place / "model"
    assert main(["explain", str(picture), "--model", str(model), "--out", str(place / "ex")]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in WORDS) and ids_shown(told) == []
    written = (place / "ex" / "explanations.json").read_text(encoding="utf-8")
    assert "umbrella" in written and ids_shown(written) == []


def test_evaluation_and_both_cards_name_classes_in_words(place, capsys):
    out = place / "evaluation"
    images, model = place / "images", place / "model"
    assert main(["evaluate", str(model), "--data", str(images), "--out", str(out)]) == 0
    assert ids_shown(capsys.readouterr().out) == []
    for form, file in (("html", "card.html"), ("markdown", "card.md")):
        assert main(["report", str(out), "--format", form, "--out", str(place / file)]) == 0
        text = (place / file).read_text(encoding="utf-8")
        assert ids_shown(text) == []
    assert all(word in (place / "card.html").read_text(encoding="utf-8") for word in WORDS)


def test_an_id_that_is_shown_is_seen():
    assert ids_shown("n04507155 87 %, n01440764/0.png") == ["n04507155"]
