"""Accuracy under attack: streaming, resumable, checked, and seen."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vitreous import cli
from vitreous.attacks import FGSM, PGD, Square
from vitreous.attacks.checks import AttackWarning, check, masked_by, warn
from vitreous.attacks.figures import attack_frames, save_animation, save_panel
from vitreous.attacks.robustness import robustness
from vitreous.errors import VitreousError
from vitreous.models import Classifier, load_model, save_model
from vitreous.results import Results

RADII = (2 / 255, 8 / 255, 32 / 255)


class Stripes:
    """Pictures of four classes: a quarter that is brighter than the rest, more or less."""

    def __init__(self, count: int = 40):
        self.reads: list[int] = []
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(count, 3, 16, 16, generator=generator) * 0.3 + 0.2
        self.labels = torch.arange(count) % 4
        for row, label in enumerate(self.labels.tolist()):
            top, left = 8 * (label // 2), 8 * (label % 2)
            self.images[row, :, top : top + 8, left : left + 8] += 0.3 * row / count

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.reads.append(index)
        return self.images[index], int(self.labels[index])


class Quarters(nn.Module):
    """Says which quarter is brightest: its margin, and so the least radius, is known."""

    num_classes = 4

    def __init__(self, sharpness: float = 10.0):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, images: Tensor) -> Tensor:
        means = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 8)
        return means.flatten(1) * self.sharpness


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(Quarters(), (0.0,) * 3, (1.0,) * 3, name="quarters").eval()


def exact(images: Stripes, epsilon: float) -> int:
    """How many withstand: the label's quarter leads by more than 2ε (nothing is cut off)."""
    means = Quarters(1.0)(images.images)
    own = means.gather(1, images.labels[:, None])[:, 0]
    other = means.scatter(1, images.labels[:, None], -torch.inf).amax(1)
    return int((own - other > 2 * epsilon).sum())


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=10), PGD(steps=5, loss="margin")])
def test_the_curve_is_the_exact_one_of_a_model_whose_margin_is_known(attack, classifier) -> None:
    images = Stripes()
    found = robustness(classifier, images, attack, RADII, batch_size=7, quiet=True)
    for epsilon, accuracy in found.curve():
        assert accuracy * 40 == pytest.approx(exact(images, epsilon), abs=1)
    assert found.curve()[0][1] > found.curve()[-1][1]
    records = found.records("stripes")
    assert [r.settings["epsilon"] for r in records] == [0.0, *RADII]
    assert all(r.n == 40 and r.ci95 is not None and r.suite == "attack" for r in records)


@pytest.mark.parametrize("attack", [PGD(steps=2, restarts=2), Square(queries=20)])
def test_killed_and_resumed_equals_uninterrupted(attack, classifier, tmp_path) -> None:
    whole = robustness(classifier, Stripes(), attack, RADII, batch_size=8, quiet=True)
    state = tmp_path / "state.json"

    class Killed(Stripes):
        def __getitem__(self, index: int):
            if index == 20:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        robustness(classifier, Killed(), attack, RADII, batch_size=8, state=state, quiet=True)
    assert len(json.loads(state.read_text())["outcomes"]) == 16
    rest = Stripes()
    again = robustness(classifier, rest, attack, RADII, batch_size=8, state=state, quiet=True)
    assert again == whole and min(rest.reads) == 16


def test_a_state_of_another_evaluation_is_refused(classifier, tmp_path) -> None:
    state = tmp_path / "state.json"
    robustness(classifier, Stripes(8), PGD(steps=2), RADII, state=state, quiet=True)
    other = Classifier(Quarters(5.0), name="quarters")
    for model, attack in ((classifier, PGD(steps=3)), (other, PGD(steps=2))):
        with pytest.raises(VitreousError, match="holds another evaluation"):
            robustness(model, Stripes(8), attack, RADII, state=state, quiet=True)


def names(model: nn.Module, images: Tensor, labels: Tensor) -> list[str]:
    return [finding.name for finding in check(model, images, labels)]


def test_an_honest_model_passes_all_checks(classifier) -> None:
    images = Stripes()
    assert names(classifier, images.images, images.labels) == []


def test_checks_name_what_is_wrong(classifier) -> None:
    class Noisy(Quarters):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images + 0.1 * torch.randn_like(images))

    class Rounded(Quarters):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * 32).round() / 32)

    inputs = Stripes()
    images, labels = inputs.images, inputs.labels
    assert names(Classifier(Noisy()).eval(), images, labels)[0] == "stochastic"
    assert names(Classifier(Rounded()).eval(), images, labels) == [
        "vanishing gradients",
        "gradient masking",
    ]
    assert "vanishing gradients" in names(Classifier(Quarters(1e4)).eval(), images, labels)
    assert "range" in names(classifier, images * 2 - 1, labels)
    classifier.train()
    with pytest.warns(AttackWarning, match=r"call model.eval\(\)"):
        warn(check(classifier, images, labels))
    assert classifier.training


def test_lost_perturbations_are_told() -> None:
    class Sparse(Quarters):
        def forward(self, images: Tensor) -> Tensor:
            seen = torch.ones_like(images)
            seen[..., 0, 0] = 0
            return super().forward(images * seen)

    inputs = Stripes()
    (finding,) = check(Classifier(Sparse()).eval(), inputs.images, inputs.labels)
    assert finding.name == "lost perturbations" and "0.39%" in finding.message


def test_a_better_attack_without_gradients_is_told() -> None:
    assert masked_by({"pgd": 0.5, "square": 0.5}) is None
    finding = masked_by({"pgd": 0.5, "apgd_ce": 0.45, "square": 0.2})
    assert finding is not None and "45.0%" in finding.message


def test_a_targeted_attack_is_drawn_at_growing_radii(classifier, tmp_path) -> None:
    image, label = Stripes()[30]
    frames = attack_frames(classifier, image, label, PGD(steps=10), RADII, target=1)
    assert [f.epsilon for f in frames] == [0.0, *RADII]
    assert torch.equal(frames[0].perturbed, image) and frames[0].answer == str(label)
    assert [f.target for f in frames] == sorted(f.target for f in frames)
    assert frames[-1].answer == "1" and frames[-1].perturbation.abs().max() <= 32 / 255 + 1e-6
    with Image.open(save_panel(frames, tmp_path / "strip.png", "towards 1")) as strip:
        assert strip.width > 4 * 224
    with Image.open(save_animation(frames, tmp_path / "attack.gif")) as animation:
        assert animation.n_frames == 4


def test_the_command_writes_a_curve_and_goes_on(tmp_path, capsys) -> None:
    torch.manual_seed(0)
    model = load_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=3,
        image_size=32,
        embed_dim=24,
        depth=1,
        num_heads=2,
        class_names=["a", "b", "c"],
    )
    save_model(model, tmp_path / "model")
    generator = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
    common = ["attack", str(tmp_path / "model"), "--quiet", "--epsilon", "2/255", "16/255"]
    measure = [*common, "--data", str(tmp_path / "set"), "--attack", "pgd", "fgsm", "--steps", "3"]
    out = tmp_path / "out"
    assert cli.main([*measure, "--out", str(out), "--keep", "1"]) == 0
    results = Results.read(out)
    values = {
        (r.settings["attack"], r.settings["epsilon"]): r.value for r in results.find(suite="attack")
    }
    assert len(values) == 6 and values["pgd", 0.0] >= values["pgd", 2 / 255]
    assert (out / "attacks" / "set_curve.png").is_file()
    before = capsys.readouterr().out
    assert cli.main([*measure, "--out", str(out)]) == 0
    assert capsys.readouterr().out == before
    image = str(tmp_path / "set" / "a" / "0.png")
    show = [*common, "--image", image, "--target", "2", "--out", str(out)]
    assert cli.main(show) == 0
    assert (out / "0_attack.png").is_file() and (out / "0_attack.gif").is_file()
    capsys.readouterr()
    for wrong, said in (
        ([*common], "give either --data"),
        ([*show, "--target", "7"], "is no class"),
        ([*show, "--attack", "fgsm", "--steps", "3"], "--steps does not belong to fgsm"),
    ):
        assert cli.main(wrong) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
