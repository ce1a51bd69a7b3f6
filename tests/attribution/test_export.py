"""What other tools load computes what we compute."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import to_pil_image as to_pil

from helpers import small_crossvit
from vitreous import cli, load_model, relevance, save_model
from vitreous.attribution.export import export_onnx
from vitreous.data.generated.scenes import World, draw_scenes, sample_scenes
from vitreous.data.images import evaluation_transform
from vitreous.errors import VitreousError
from vitreous.models import Classifier, Preprocessing

ONNX = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
pytest.importorskip("onnxscript", reason="needs the extra 'export'")


def small_vit() -> Classifier:
    return load_model(
        "vit_tiny_patch16_224", pretrained=False, num_classes=5, image_size=48, depth=2
    )


def trained_vit() -> tuple[Classifier, Tensor]:
    """The demo's model as it ships, and pictures of the kind that it knows."""
    classifier = load_model(str(resources.files("vitreous") / "demo" / "pretrained"))
    world = World()
    return classifier, draw_scenes(world, sample_scenes(world, 4, seed=5))[0]


def trained_crossvit() -> tuple[Classifier, Tensor]:
    """A small CrossViT that has learnt some random pictures by heart, and these."""
    classifier, images = small_crossvit(), torch.rand(4, 3, 64, 64)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(classifier(images), torch.arange(4)).backward()
        optimizer.step()
    classifier.zero_grad(set_to_none=True)
    return classifier, images


Exported = Callable[[Callable[[], tuple[Classifier, Tensor]]], tuple[Classifier, Tensor, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A trained model, pictures that it knows and its graph with maps, each made once."""
    from vitreous.attribution.export import export_onnx

    @functools.cache
    def made(make: Callable[[], tuple[Classifier, Tensor]]) -> tuple[Classifier, Tensor, Path]:
        classifier, images = make()
        path = tmp_path_factory.mktemp("graph") / "both.onnx"
        flags = [p.requires_grad for p in classifier.parameters()]
        export_onnx(classifier, path, relevance=True)
        assert [p.requires_grad for p in classifier.parameters()] == flags
        return classifier, images, path

    return made


@pytest.mark.parametrize("make", [trained_vit, trained_crossvit])
def test_one_onnx_graph_gives_our_logits_and_our_maps(make, exported):
    classifier, images, graph = exported(make)
    logits, maps = classifier(images).detach(), relevance(classifier, images)
    assert logits.softmax(1).max() > 0.9 and maps.std() > 0.01
    session = ONNX.InferenceSession(str(graph))
    for count in (1, 2, 4):
        found = session.run(["logits", "relevance"], {"images": images[:count].numpy()})
        torch.testing.assert_close(torch.from_numpy(found[0]), logits[:count], atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.from_numpy(found[1]), maps[:count], atol=1e-4, rtol=0)
    constant = session.run(["relevance"], {"images": torch.zeros_like(images).numpy()})[0]
    expected = relevance(classifier, torch.zeros_like(images))
    torch.testing.assert_close(torch.from_numpy(constant), expected, atol=1e-4, rtol=0)


def test_the_command_writes_logits_for_any_number_of_pictures(tmp_path, capsys):
    classifier = small_vit()
    save_model(classifier, tmp_path / "model")
    out = tmp_path / "logits.onnx"
    arguments = ["export", str(tmp_path / "model"), "--format", "onnx", "--out", str(out)]
    assert cli.main(arguments) == 0
    assert "logits.onnx" in capsys.readouterr().out
    images = torch.rand(3, 3, 48, 48)
    found = ONNX.InferenceSession(str(out)).run(None, {"images": images.numpy()})
    assert len(found) == 1
    torch.testing.assert_close(
        torch.from_numpy(found[0]), classifier(images).detach(), atol=1e-5, rtol=0
    )


def test_the_graph_tells_a_program_without_us_what_it_must_know(exported, tmp_path):
    """The example reads names and size from the file, and answers as the model does."""
    classifier, images, graph = exported(trained_vit)
    about = ONNX.InferenceSession(str(graph)).get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == classifier.class_names
    assert tuple(json.loads(about["size"])) == classifier.preprocessing.size
    for name in ("mean", "std"):
        stored = torch.tensor(json.loads(about[name]))
        torch.testing.assert_close(stored, getattr(classifier, name).flatten())
    photo = to_pil(images[0]).resize((75, 101))  # not square, and larger than the input
    photo.save(tmp_path / "a.png")
    example = Path(__file__).parents[2] / "examples" / "onnx_alone.py"
    imported = set(re.findall(r"^(?:import|from) (\w+)", example.read_text("utf-8"), re.M))
    assert imported == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    command = [sys.executable, str(example), str(graph), "a.png"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = evaluation_transform(classifier.preprocessing)(photo)[None]
    chances, best = classifier(seen).softmax(1)[0].topk(5)
    said = [f"{p:7.2%}  {classifier.class_name(int(i))}" for p, i in zip(chances.tolist(), best)]
    assert told.stdout.splitlines() == said
    assert (tmp_path / "relevance.png").is_file()


def test_timm_loads_what_the_command_writes(tmp_path, capsys):
    classifier = small_vit()
    save_model(classifier, tmp_path / "run")
    out = tmp_path / "copy"
    assert cli.main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert f"local-dir:{out}" in capsys.readouterr().out
    net = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    again = load_model(f"local-dir:{out}")
    images = torch.rand(2, 3, 48, 48)
    normalised = (images - classifier.mean) / classifier.std
    torch.testing.assert_close(net(normalised), classifier(images), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        relevance(again, images), relevance(classifier, images), atol=1e-5, rtol=0
    )


def test_a_method_that_does_not_hold_is_refused_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "x.onnx"
    arguments = ["export", "resnet10t", "--no-pretrained", "--format", "onnx-relevance"]
    assert cli.main([*arguments, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "input_gradient" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


class Unknown(nn.Module):
    """Asks for a function that ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.special.bessel_j0(x.mean((2, 3))))


def test_what_onnx_has_no_word_for_is_named_in_one_plain_line(tmp_path: Path) -> None:
    preprocessing = Preprocessing((32, 32), 1.0, "bicubic")
    model = Classifier(Unknown(), (0.5,) * 3, (0.5,) * 3, preprocessing=preprocessing)
    with pytest.raises(VitreousError, match=r"as ONNX: .*bessel_j0") as error:
        export_onnx(model, tmp_path / "model.onnx")
    assert str(error.value).isprintable() and not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_put_in_place(tmp_path):
    from vitreous import VitreousError
    from vitreous.attribution.export import export_onnx

    with pytest.raises(VitreousError, match=r"logits .* more than the tolerance -1"):
        export_onnx(small_vit(), tmp_path / "x.onnx", tolerance=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_gated_network_is_written_with_its_maps(tmp_path):
    """EVA-02's blocks have SiLU, for whose gradient ONNX has no operator."""
    shape = {"depth": 1, "embed_dim": 24, "num_heads": 2, "image_size": 28, "num_classes": 3}
    model = load_model("eva02_tiny_patch14_224", pretrained=False, **shape)
    from vitreous.attribution.export import export_onnx

    check = export_onnx(model, tmp_path / "both.onnx", relevance=True)
    assert check.relevance is not None and (tmp_path / "both.onnx").is_file()
