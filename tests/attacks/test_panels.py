"""Pictures that `vitreous attack` pushes towards a class are on the card of the run."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous import cli, load_model, save_model
from vitreous.results import Results


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a small model, and pictures of its three classes beside it."""
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        embed_dim=24,
        depth=1,
        num_heads=2,
        class_names=["ant", "bee", "cat, tabby"],
    )
    torch.nn.init.normal_(model.net.head.weight, std=0.5)
    save_model(model, tmp_path / "run")
    Results("small").write(tmp_path / "run" / "results.json")
    generator = np.random.default_rng(0)
    for name in ("ant", "bee", "cat, tabby"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(2):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    return tmp_path / "run"


def attack(run: Path, *arguments: str) -> int:
    common = ["attack", str(run), "--quiet", "--epsilon", "8/255", "32/255", "--steps", "5"]
    return cli.main([*common, *arguments])


def card(run: Path) -> str:
    assert cli.main(["report", str(run), "--out", str(run / "card.html")]) == 0
    text = (run / "card.html").read_text()
    return html.unescape(text.partition('<h2 id="targeted">')[2].partition("</section>")[0])


def test_strips_of_a_set_are_on_the_card_of_the_run(run):
    assert attack(run, "--data", str(run.parent / "set"), "--panels", "3") == 0
    shown = card(run)
    titles = re.findall(r"<h4>(.+?)</h4>", shown)
    assert titles == ["ant → bee", "bee → cat", "cat → ant"]
    assert shown.count("<img") == 3 * 4 and "picture missing" not in shown
    assert shown.count("<figcaption>ε 32/255: ") == 3


def test_a_pushed_picture_is_what_the_strip_says(run):
    for _ in range(2):  # the second time replaces the first
        image = str(run.parent / "set" / "ant" / "0.png")
        assert attack(run, "--image", image, "--label", "0", "--target", "1") == 0
    (entry,) = json.loads((run / "targeted" / "targeted.json").read_text())
    assert entry["title"] == "ant → bee"
    model = load_model(run)
    read = {}
    for caption, name in entry["files"].items():
        with Image.open(run / "targeted" / name) as file:
            read[caption] = torch.tensor(np.asarray(file.convert("RGB")) / 255).permute(2, 0, 1)
    clean, weak, strong, difference = read.values()
    for radius, pushed in ((8, weak), (32, strong)):
        assert 0 < (pushed - clean).abs().max() <= (radius + 1) / 255
    for caption, pushed in list(read.items())[:3]:
        said = model(pushed[None].float()).softmax(1)[0].detach()
        answer, share = caption.split(": ")[1].rsplit(" ", 1)
        assert answer == model.class_name(int(said.argmax())).split(",")[0]
        assert float(share.removesuffix("\N{NO-BREAK SPACE}%")) / 100 == pytest.approx(
            float(said.max()), abs=0.03
        )
    expected = (0.5 + 4 * (strong - clean)).clamp(0, 1)
    assert (difference - expected).abs().max() <= 4.1 / 255
    assert "ant → bee" in card(run)


def test_a_picture_pushed_nowhere_makes_no_strip(run):
    image = str(run.parent / "set" / "ant" / "0.png")
    assert attack(run, "--image", image) == 0
    assert not (run / "targeted").exists()


def test_an_attack_without_targets_says_so_in_one_line(run, capsys):
    arguments = ["attack", str(run), "--epsilon", "8/255", "--attack", "autoattack", "--target"]
    image = str(run.parent / "set" / "ant" / "0.png")
    assert cli.main([*arguments, "1", "--image", image]) == 1
    error = capsys.readouterr().err
    assert "untargeted" in error and error.count("\n") == 1
