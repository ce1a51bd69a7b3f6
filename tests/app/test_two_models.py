"""Two models on one page, in a browser and by gradio's own client: they are compared by words."""

from __future__ import annotations

import base64
import gc
import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from chromium import open_page
from helpers import tiny_vit
from vitreous import save_model
from vitreous.app.analysis import PerturbationChoice, analyse
from vitreous.data.images import to_uint8
from vitreous.models import Classifier

NAMES = {
    "before": ["cat", "dog", "n04507155", "house"],
    "after": ["umbrella", "cat", "fish", "boat"],
}


@pytest.fixture(scope="module")
def models() -> dict[str, Classifier]:
    """Two models of four classes each; both know a cat, and an umbrella by another name."""
    made = {}
    for seed, (name, classes) in enumerate(NAMES.items()):
        made[name] = tiny_vit(4, seed=seed, class_names=classes)
        torch.nn.init.normal_(made[name].net.head.weight, std=0.3)
    return made


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "noise.png"
    pixels = np.random.default_rng(5).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def served(models, tmp_path_factory) -> Iterator[str]:
    """The page of `vitreous app before after`; its address."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    root = tmp_path_factory.mktemp("models")
    folders = [str(save_model(model, root / name)) for name, model in models.items()]
    command = [sys.executable, "-m", "vitreous.cli", "app", *folders, "--port", "7860"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1]
        finally:
            process.terminate()


def decoded(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), dtype=int)


def expected_map(model: Classifier, picture: Path, target: int, **done: Any) -> np.ndarray:
    with Image.open(picture) as image:
        view = analyse(
            model, image.convert("RGB"), ["gradient_attention"], target, PerturbationChoice(**done)
        )
    return to_uint8(view.maps["gradient_attention"]).astype(int)


PANELS = "[...document.querySelectorAll('.maps')].filter(m => m.checkVisibility())"
SAID = "document.body.innerText.split('Explained: umbrella').length - 1"
UMBRELLA = (
    "[...document.querySelectorAll('.confidence-set')]"
    ".find(line => line.innerText.includes('umbrella')).click()"
)


@pytest.mark.browser
def test_two_models_are_compared_on_one_picture(served, models, picture, tmp_path):
    with open_page(tmp_path / "profile") as page:
        page.view(1240, dark=True)
        page.open(served)
        page.wait(f"{PANELS}.length === 2")
        page.choose_file("input[type=file]", picture)
        page.wait("document.querySelector('.preview img') !== null")
        assert "70 × 50 pixels" in page.evaluate("document.querySelector('.preview').innerText")
        page.evaluate(UMBRELLA)
        page.wait(f"{SAID} === 2")
        for place, (name, target) in enumerate({"before": 2, "after": 0}.items()):
            shown = decoded(page.evaluate(f"{PANELS}[{place}].querySelectorAll('img')[1].src"))
            assert abs(shown - expected_map(models[name], picture, target)).max() <= 1
        page.evaluate(
            "(() => { const field = document.querySelectorAll('input[type=number]')[1]; "
            "field.focus(); field.value = 8; field.dispatchEvent(new Event('input')); "
            "field.blur(); })()"
        )
        page.wait("document.body.innerText.split('What the attack added').length === 3")
        page.evaluate(
            "[...document.querySelectorAll('input[type=checkbox]')].find(box => "
            "box.closest('label').innerText.includes('before')).click()"
        )
        page.wait(f"{PANELS}.length === 1")
        page.view(390)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.problems == []


def test_the_client_of_gradio_calls_it_by_named_parameters(served, models, picture):
    client = pytest.importorskip("gradio_client")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sockets and loops that the client leaves open
        caller = client.Client(served, verbose=False, download_files=False, analytics_enabled=False)
        message, *shown = caller.predict(
            file=client.handle_file(str(picture)),
            chosen=["after"],
            methods=["rollout"],
            angle=90,
            epsilon=0,
            steps=1,
            api_name="/explain",
        )
        described = caller.view_api(print_info=False, return_format="dict")
        caller.close()
        del caller
        gc.collect()
    assert list(described["named_endpoints"]) == ["/explain"]
    with Image.open(picture) as image:
        view = analyse(models["after"], image, [], None, PerturbationChoice(angle=90))
    assert message == "" and len(shown) == 6
    status, label, maps = shown[3:]
    assert shown[0] == shown[2] == "" and "after" in status
    assert label["label"] == f"{view.top[0][1]} [{view.top[0][0]}]"
    assert "rollout" in maps and "turned 90°" in maps
