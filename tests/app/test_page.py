"""What whoever launches the page gets: looks, limits, named parameters; and one class for all."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from vitreous.app.analysis import PerturbationChoice, analyse
from vitreous.app.answers import preview_of, same_class
from vitreous.app.gate import allowed
from vitreous.app.page import build
from vitreous.app.uploads import LARGEST_FILE
from vitreous.attacks import PGD
from vitreous.commands.app import Command
from vitreous.data.images import evaluation_transform
from vitreous.models import Classifier, load_model

SPACE = Path(__file__).parents[2] / "examples" / "space"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The Space's `app.py`, imported as Python would run it, but not launched."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        spec.loader.exec_module(module)
        yield module


def test_a_built_page_leaves_no_event_loop_behind(monkeypatch, tmp_path):
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    made, new = [], asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made.append(new()) or made[-1])
    build({"one": named("a", "b")})
    assert made and all(loop.is_closed() for loop in made)


def test_a_space_needs_only_its_folder(space):
    front = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["sdk"] == "gradio" and (SPACE / front["app_file"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", front["sdk_version"])
    assert len(front["title"]) < 60 and {"emoji", "colorFrom", "colorTo"} <= front.keys()
    assert (SPACE / "requirements.txt").read_text(encoding="utf-8") == "vitreous[app]\n"
    assert space.page.title == "Vitreous"


def test_whoever_launches_the_page_gets_its_looks_and_limits(space):
    told = space.page.launch.keywords
    assert told["max_file_size"] == LARGEST_FILE and ".maps" in told["css"]
    assert "system-ui" in repr(told["theme"]._font)
    assert space.page._queue.max_size == 64


def test_the_api_has_names_and_a_description(space):
    described = space.page.get_api_info()["named_endpoints"]
    assert list(described) == ["/explain"]
    names = [p["parameter_name"] for p in described["/explain"]["parameters"]]
    assert names == ["file", "chosen", "methods", "angle", "epsilon", "steps"]
    assert "Answers and maps of the chosen models" in json.dumps(described["/explain"])


def named(*names: str) -> Classifier:
    return Classifier(nn.Linear(1, len(names)), class_names=list(names))


def test_a_clicked_class_is_that_of_all_models_by_its_words():
    models = {"a": named("cat", "dog", "n04507155"), "b": named("umbrella", "cat"), "c": named("x")}
    assert same_class(models, "a", 0) == {"a": 0, "b": 1}
    assert same_class(models, "a", 2) == {"a": 2, "b": 0}
    assert same_class(models, "b", 0) == {"a": 2, "b": 0}


def test_the_difference_image_is_what_the_attack_added():
    torch.manual_seed(1)
    model = load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=4, image_size=32, depth=1
    )
    torch.nn.init.normal_(model.net.head.weight, std=0.3)
    image = Image.effect_noise((40, 40), 60).convert("RGB")
    assert analyse(model, image, []).difference is None
    epsilon = 4 / 255
    view = analyse(model, image, [], perturbation=PerturbationChoice(epsilon=epsilon, steps=3))
    clean = evaluation_transform(model.preprocessing)(image)
    label = model(clean[None]).argmax(1)
    attacked = PGD(epsilon=epsilon, steps=3, random_start=False)(model, clean[None], label)[0]
    assert view.difference is not None
    added = (view.difference - 0.5) * 2 * epsilon
    torch.testing.assert_close(added, attacked - clean, atol=1e-6, rtol=0)
    assert view.difference.min() < 0.1 and view.difference.max() > 0.9


def test_an_upload_is_shown_small_and_a_bad_one_is_not(tmp_path):
    Image.new("RGB", (900, 300), "red").save(tmp_path / "wide.png")
    assert "900 × 300 pixels" in preview_of(str(tmp_path / "wide.png"))
    (tmp_path / "bad.png").write_bytes(b"no")
    assert preview_of(str(tmp_path / "bad.png")) == preview_of(None) == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "this machine only"),
        ({"host": "0.0.0.0"}, "whoever reaches this machine"),
        ({"host": "192.168.1.7"}, "whoever reaches 192.168.1.7"),
    ],
)
def test_the_command_says_who_can_see_the_page(settings, said):
    assert said in Command(models=("x",), **settings).visibility()


class Served:
    """A page for which gradio's servers gave an address, or none; gradio says so in many lines."""

    def __init__(self, public: str | None):
        self.public, self.asked = public, {}

    def launch(self, **asked: Any) -> tuple[None, str, str | None]:
        self.asked = asked
        print("\nCould not create share link.\n\nPlease check …\n1. Download this file …")
        return None, "http://127.0.0.1:7980/", self.public

    def block_thread(self) -> None:
        """Nobody visits."""


@pytest.mark.parametrize(
    ("public", "said"),
    [
        (None, ["no public page: gradio's servers gave no address", "this machine only"]),
        ("https://abc.gradio.live", ["public page: https://abc", "open to the internet"]),
    ],
)
def test_a_page_is_called_public_where_gradio_gave_an_address(public, said, monkeypatch, capsys):
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    page = Served(public)
    monkeypatch.setattr("vitreous.app.page.build", lambda models: page)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(Command, "_load", lambda _: {})
    Command(models=("a",), port=7980, share=True).run()
    lines = capsys.readouterr().out.splitlines()
    assert page.asked["share"] is True and page.asked["server_name"] == "127.0.0.1"
    assert len(lines) == 3 and lines[0].startswith("page: http://127.0.0.1:")
    assert all(part in line for part, line in zip(said, lines[1:], strict=True))


def test_a_shared_page_answers_by_its_public_name_and_others_do_not():
    assert allowed("abc.gradio.live", "127.0.0.1", (".gradio.live",))
    for name in ("gradio.live.evil.example", "evilgradio.live", "abc.gradio.live.evil"):
        assert not allowed(name, "127.0.0.1", (".gradio.live",))
    assert not allowed("abc.gradio.live", "127.0.0.1")


def test_the_page_is_launched_by_the_names_of_gradio(space):
    gradio = pytest.importorskip("gradio")
    known = inspect.signature(gradio.Blocks.launch).parameters
    assert set(space.page.launch.keywords) <= set(known)
