"""The page answers as the library does, for pictures good and bad."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from chromium import open_page
from vitreous import VitreousError, cli, load_model, relevance, save_model
from vitreous.app import analysis
from vitreous.app.analysis import PerturbationChoice, analyse
from vitreous.app.answers import fill_outputs
from vitreous.app.examples import example_images
from vitreous.app.uploads import LARGEST_FILE, open_upload
from vitreous.attacks import PGD
from vitreous.attribution import METHODS
from vitreous.attribution.draw import overlay
from vitreous.data.images import evaluation_transform, to_uint8
from vitreous.data.rotation import rotate
from vitreous.errors import ImageError
from vitreous.models import Classifier


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(3)
    names = [f"kind {i}" for i in range(8)]
    model = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=8,
        image_size=48,
        depth=2,
        class_names=names,
    )
    torch.nn.init.normal_(model.net.head.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_view_is_what_the_library_says(classifier, image):
    images = evaluation_transform(classifier.preprocessing)(image)[None]
    view = analyse(classifier, image, list(METHODS), target=5)
    probabilities = classifier(images).softmax(1)[0].detach()
    best = probabilities.argsort(descending=True)[:5].tolist()
    assert [index for index, _, _ in view.top] == best
    assert view.top[0][1] == f"kind {best[0]}" and view.target == 5
    assert view.top[0][2] == pytest.approx(float(probabilities.max()), abs=1e-6)
    for method in METHODS:
        expected = overlay(images[0], relevance(classifier, images, 5, method)[0])
        torch.testing.assert_close(view.maps[method], expected, atol=1e-5, rtol=0)


def test_an_attacked_view_stays_in_its_ball_and_is_the_same_twice(classifier, image):
    clean = analyse(classifier, image, [], perturbation=PerturbationChoice(angle=90))
    attacked = PerturbationChoice(angle=90, epsilon=4 / 255, steps=5)
    one, two = (analyse(classifier, image, [], None, attacked) for _ in range(2))
    assert one.unperturbed[0] == clean.top[0][1]
    assert torch.equal(one.image, two.image)
    assert 0 < float((one.image - clean.image).abs().max()) <= 4 / 255 + 1e-6
    labels = torch.tensor([clean.top[0][0]])
    expected = PGD(epsilon=4 / 255, steps=5, random_start=False)(
        classifier, clean.image[None], labels
    )
    torch.testing.assert_close(one.image, expected[0])


def test_visitors_at_once_never_meet_inside_a_model(classifier, image, monkeypatch):
    """Explaining swaps parts of a model and puts them back; nobody may see them half swapped."""
    original, inside, most = analysis.explain, [], []

    def watched(*arguments: Any, **settings: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        try:
            return original(*arguments, **settings)
        finally:
            inside.pop()

    images = [image.rotate(90 * k, expand=True) for k in range(4)]
    wanted = [analyse(classifier, one, list(METHODS), target=k) for k, one in enumerate(images)]
    monkeypatch.setattr(analysis, "explain", watched)
    with ThreadPoolExecutor(8) as pool:
        asked = [
            (k, pool.submit(analyse, classifier, images[k], list(METHODS), k))
            for k in [0, 1, 2, 3] * 4
        ]
        for k, future in asked:
            found = future.result()
            assert found.top == wanted[k].top
            for method in METHODS:
                assert torch.equal(found.maps[method], wanted[k].maps[method])
    assert len(most) == 16 * len(list(METHODS)) and max(most) == 1


def test_turning_moves_pixels_and_four_quarters_are_none():
    image = torch.rand(3, 8, 8)
    assert torch.equal(rotate(image, 90), torch.rot90(image, 1, (1, 2)))
    assert torch.equal(rotate(rotate(image, 270), 90), image)
    assert rotate(torch.rand(3, 6, 8), 90).shape == (3, 6, 8)
    assert float(rotate(torch.ones(3, 64, 64), 45)[:, 0, 0].sum()) == 0.0


def test_methods_that_do_not_hold_are_said_not_raised(image):
    model = load_model("resnet10t", pretrained=False, num_classes=4, image_size=None)
    view = analyse(model, image, ["rollout", "input_gradient"])
    assert list(view.maps) == ["input_gradient"]
    assert "rollout does not hold" in view.notes[0]


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "not a picture"),
        ("text.jpg", b"hello", "not a picture"),
        ("cut.png", png(300, 300)[:-60], "corrupt or cut short"),
        ("wide.png", png(9000, 10), "9000 × 10 pixels"),
        ("bomb.png", png(20000, 20000)[:2000], "pixels"),
        ("heavy.png", b"0" * (LARGEST_FILE + 1), "MB"),
    ],
)
def test_bad_uploads_are_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        open_upload(path)
    assert name in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_good_uploads_of_any_mode_are_read(tmp_path):
    for mode in ("RGBA", "L", "P", "CMYK", "I;16"):
        path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
        Image.new(mode, (20, 10)).save(path)
        assert open_upload(path).mode == "RGB"


def test_examples_are_drawn():
    images = example_images()
    assert len(images) >= 4
    assert all(p.shape == (256, 256, 3) and p.std() > 10 and name for p, name in images)


def test_the_command_refuses_more_models_than_fit(capsys):
    assert cli.main(["app", *["x"] * 7]) == 1
    assert "one to six" in capsys.readouterr().err


@pytest.fixture(scope="module")
def served(classifier, tmp_path_factory) -> Iterator[str]:
    """The page of the command in a process of its own; its address."""
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    folder = save_model(classifier, tmp_path_factory.mktemp("models") / "one")
    command = [sys.executable, "-m", "vitreous.cli", "app", str(folder), "--port", "7900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("page: http://127.0.0.1:"), line
            assert process.stdout.readline() == "open to programs and users of this machine only\n"
            yield line.split()[1]
        finally:
            process.terminate()


def post(url: str, data: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def upload(url: str, name: str, content: bytes) -> str:
    """Send a file as a browser does; returns its place on the server."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    return post(f"{url}gradio_api/upload", body, "multipart/form-data; boundary=x")[0]


def ask(url: str, place: str, *settings: Any) -> list[Any]:
    """Ask for an explanation as a browser does."""
    file = {"path": place, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [file, 0, ["one"], ["rollout"], *settings, {}]})
    call = f"{url}gradio_api/call/explain"
    event = post(call, body.encode(), "application/json")["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as stream:
        text = stream.read().decode()
    assert "event: complete" in text, text
    return json.loads(text.rpartition("data: ")[2])


def test_the_page_listens_on_the_loopback_and_names_no_other_host(served):
    with urllib.request.urlopen(served, timeout=30) as answer:
        text = answer.read().decode()
    for address in re.findall(r'(?:src|href)="(https?://[^"]+)"', text):
        assert address.startswith(served)
    port = int(served.rstrip("/").rpartition(":")[2])
    with socket.socket() as probe:
        probe.settimeout(2)
        assert probe.connect_ex((socket.gethostbyname(socket.gethostname()), port)) != 0 or (
            socket.gethostbyname(socket.gethostname()).startswith("127.")
        )


def test_a_visitor_gets_the_librarys_answer(served, classifier, image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    message, _, _, label, maps = ask(served, upload(served, "x.png", buffer.getvalue()), 0, 0, 10)
    expected = analyse(classifier, image, ["rollout"])
    assert message == ""
    assert label["label"] == f"{expected.top[0][1]} [{expected.top[0][0]}]"
    sent = re.findall(r"base64,([^\"]+)", maps)
    with Image.open(io.BytesIO(base64.b64decode(sent[1]))) as shown:
        assert np.array_equal(np.asarray(shown), to_uint8(expected.maps["rollout"]))


def test_a_bad_picture_gets_a_message(served):
    place = upload(served, "bad.png", png(300, 300)[:-60])
    message, *rest = ask(served, place, 90, 4, 5)
    assert "bad.png is corrupt or cut short" in message
    assert not any(rest[1:])
    with pytest.raises(urllib.error.HTTPError) as caught:
        upload(served, "heavy.png", b"0" * (LARGEST_FILE + 1))
    assert caught.value.code == 413
    caught.value.close()


@pytest.mark.parametrize(
    "settings",
    [("left", 0, 10), (math.nan, 0, 10), (0, 0, 10**9), (0, -1, 10), (None, 0, 10)],
)
def test_a_call_that_the_page_never_makes_is_answered_in_one_line(classifier, settings):
    gradio = pytest.importorskip("gradio", reason="needs the extra 'app'")
    models = {"one": classifier}
    message, *rest = fill_outputs(gradio, models, [None, 0, ["one"], ["rollout"], *settings, {}])
    assert "Traceback" not in str(message) and str(message).startswith("**")
    assert not any(rest[1:])
    for names, target in (("one", {}), ([1], {}), (["one"], {"one": "x"}), (["one"], None)):
        given = [None, 0, names, ["rollout"], 0, 0, 10, target]
        assert "not one that the page makes" in str(fill_outputs(gradio, models, given)[0])
    unknown = fill_outputs(gradio, models, [None, 0, ["one"], ["divining"], 0, 0, 10, {}])
    assert "divining" in str(unknown[0])


@pytest.mark.browser
def test_a_picture_is_dropped_explained_turned_and_attacked(served, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (70, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "x.png").read_bytes()[:3000])
    (tmp_path / "wide.png").write_bytes(png(9000, 10))
    (tmp_path / "heavy.png").write_bytes(b"0" * (LARGEST_FILE + 1))
    with open_page(tmp_path / "profile") as page:
        page.view(1240)
        page.open(served)
        maps = "document.querySelectorAll('.maps img').length"
        page.wait(f"{maps} === 2")
        wrap = "document.querySelector('#examples .grid-wrap')"
        assert page.evaluate(f"{wrap}.scrollWidth <= {wrap}.clientWidth")
        shown = "document.querySelector('.maps img').src"
        first = page.evaluate(shown)
        page.choose_file("input[type=file]", tmp_path / "x.png")
        page.wait(f"{shown} !== {first!r}")
        uploaded = page.evaluate(shown)
        page.evaluate("document.querySelectorAll('.confidence-set')[2].click()")
        page.wait(
            "document.body.innerText.includes('Explained: ' + document.querySelectorAll("
            "'.confidence-set')[2].innerText.split(' [')[0].trim())"
        )
        page.evaluate(
            "(() => { const field = document.querySelectorAll('input[type=number]')[1]; "
            "field.focus(); field.value = 8; field.dispatchEvent(new Event('input')); "
            "field.blur(); })()"
        )
        page.wait("document.body.innerText.includes('attacked, ε 8/255')")
        assert page.evaluate(shown) != uploaded
        assert page.problems == []
        for name, said in (
            ("cut.png", "cut.png is corrupt or cut short"),
            ("wide.png", "wide.png has 9000 × 10 pixels"),
            ("heavy.png", "maximum allowed size"),
        ):
            page.evaluate("document.querySelector('[aria-label=Clear]').click()")
            page.wait("document.querySelector('input[type=file]') !== null")
            page.choose_file("input[type=file]", tmp_path / name)
            page.wait(f"document.body.innerText.includes({said!r})")
        assert page.problems == []
        hosts = {r.split("/")[2] for r in page.requests if r.startswith("http")}
        assert hosts == {served.split("/")[2]}


def test_building_a_page_needs_a_model():
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    from vitreous.app.page import build

    with pytest.raises(VitreousError, match="one to six"):
        build({})
