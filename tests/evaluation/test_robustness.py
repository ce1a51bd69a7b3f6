"""Accuracy under attack: streaming, resumable, checked, and seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers import as_processes
from vitreous import cli
from vitreous.attacks import APGD, ATTACKS, FGSM, PGD, Attack, Sequence, Square
from vitreous.attacks.checks import AttackWarning, check, masked_by, observe, warn
from vitreous.attacks.figures import attack_frames, save_animation, save_panel
from vitreous.data.dataset import Dataset
from vitreous.data.stores.arrays import ArrayImages
from vitreous.errors import VitreousError
from vitreous.evaluation.evaluators.robustness import Attacked, Robustness, robustness
from vitreous.evaluation.stream import StreamSettings
from vitreous.models import Classifier, Preprocessing, load_model, save_model
from vitreous.processes import ALONE, Processes
from vitreous.results import Results

RADII = (2 / 255, 8 / 255, 32 / 255)
QUIET = StreamSettings(batch_size=8, progress=False)


class Stripes:
    """Images of four classes: a quarter that is brighter than the rest, more or less."""

    def __init__(self, count: int = 40):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(count, 3, 16, 16, generator=generator) * 0.3 + 0.2
        self.labels = torch.arange(count) % 4
        for row, label in enumerate(self.labels.tolist()):
            top, left = 8 * (label // 2), 8 * (label % 2)
            images[row, :, top : top + 8, left : left + 8] += 0.3 * row / count
        self.pixels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        self.images = self.pixels.permute(0, 3, 1, 2) / 255

    def dataset(self, store: type[ArrayImages] = ArrayImages) -> Dataset:
        names = [f"image {i}" for i in range(len(self.labels))]
        return Dataset(store(self.pixels, names), self.labels.numpy())


class Overflowing(nn.Module):
    """Gives no finite answer."""

    num_classes = 4

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None].expand(-1, 4) * torch.nan


class Close(nn.Module):
    """Two classes, green above red and not, whose logits are the same in bfloat16."""

    num_classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.996, 0.004, 0.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3)))


@pytest.mark.parametrize(("epsilon", "withstood"), [(1 / 255, 6), (4 / 255, 0)])
def test_what_is_right_is_said_in_float32(tmp_path: Path, epsilon: float, withstood: int) -> None:
    model = Classifier(Close(), (0.0,) * 3, (1.0,) * 3, preprocessing=Preprocessing((8, 8), 1.0))
    pixels = torch.tensor([127, 132, 127], dtype=torch.uint8).expand(6, 8, 8, 3).clone()
    dataset = Dataset(ArrayImages(pixels, [f"image {i}" for i in range(6)]), np.ones(6, np.int64))
    evaluator = Robustness("close", PGD(steps=5), (epsilon,))
    rounded = StreamSettings(batch_size=3, progress=False, precision="bfloat16")
    done = robustness(model.eval(), dataset, evaluator, tmp_path, streaming=rounded)
    assert [round(accuracy * 6) for _, accuracy in done.curve()] == [6, withstood]


def test_an_answer_that_is_not_finite_withstands_nothing(tmp_path: Path) -> None:
    model = Classifier(
        Overflowing(), (0.0,) * 3, (1.0,) * 3, preprocessing=Preprocessing((16, 16), 1.0)
    )
    evaluator = Robustness("stripes", PGD(steps=1), RADII)
    attacked = robustness(model, Stripes().dataset(), evaluator, tmp_path, streaming=QUIET)
    assert {record.value for record in attacked.records()} == {0.0}
    with pytest.raises(VitreousError, match="not finite"):
        attack_frames(model, Stripes().images[0], 0, PGD(steps=1), RADII)


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
    return quarters()


def quarters(sharpness: float = 10.0) -> Classifier:
    view = Preprocessing((16, 16), 1.0)
    net = Quarters(sharpness)
    return Classifier(net, (0.0,) * 3, (1.0,) * 3, name="quarters", preprocessing=view).eval()


def exact(images: Stripes, epsilon: float) -> int:
    """How many withstand: the label's quarter leads by more than 2ε (nothing is cut off)."""
    means = Quarters(1.0)(images.images)
    own = means.gather(1, images.labels[:, None])[:, 0]
    other = means.scatter(1, images.labels[:, None], -torch.inf).amax(1)
    return int((own - other > 2 * epsilon).sum())


def attacked(
    classifier: Classifier,
    folder: Path,
    attack: Attack,
    dataset: Dataset | None = None,
    streaming: StreamSettings = QUIET,
    processes: Processes = ALONE,
    epsilons: tuple[float, ...] = RADII,
    **options,
) -> Attacked:
    evaluator = Robustness("stripes", attack, epsilons, **options)
    return robustness(
        classifier,
        dataset or Stripes().dataset(),
        evaluator,
        folder,
        streaming=streaming,
        processes=processes,
    )


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=10), PGD(steps=5, loss="margin")])
def test_the_curve_is_the_exact_one_of_a_model_whose_margin_is_known(
    attack, classifier, tmp_path
) -> None:
    images = Stripes()
    found = attacked(classifier, tmp_path, attack)
    for epsilon, accuracy in found.curve():
        assert accuracy * 40 == pytest.approx(exact(images, epsilon), abs=1)
    assert found.curve()[0][1] > found.curve()[-1][1]
    records = found.records()
    assert [r.settings["epsilon"] for r in records] == [0.0, *RADII]
    assert all(r.n == 40 and r.ci95 is not None and r.suite == "attack" for r in records)


class Killed(ArrayImages):
    def open(self, index: int) -> Image.Image:
        if index == 20:
            raise KeyboardInterrupt
        return super().open(index)


RANDOM = [
    PGD(steps=2, restarts=2),
    APGD(steps=3),
    Square(queries=20),
    Square(queries=20, norm="l2", epsilon=1.0),
    Sequence(members=("fgsm", "square"), queries=10),
]


@pytest.mark.parametrize("attack", RANDOM)
def test_killed_and_resumed_equals_uninterrupted(attack, classifier, tmp_path) -> None:
    whole = attacked(classifier, tmp_path / "a", attack)
    with pytest.raises(KeyboardInterrupt):
        attacked(classifier, tmp_path / "b", attack, Stripes().dataset(Killed))
    (rows,) = (tmp_path / "b").rglob("rows-0.bin")
    assert 0 < rows.stat().st_size < len(whole.rows) * whole.rows.dtype.itemsize
    again = attacked(classifier, tmp_path / "b", attack)
    assert np.array_equal(again.rows, whole.rows)


@pytest.mark.parametrize("attack", RANDOM)
def test_neither_batches_nor_processes_nor_a_limit_change_what_is_found(
    attack, classifier, tmp_path
) -> None:
    whole = attacked(classifier, tmp_path / "a", attack)
    few = StreamSettings(batch_size=3, progress=False, limit=9)
    part = attacked(classifier, tmp_path / "b", attack, streaming=few).rows
    assert np.array_equal(part, whole.rows[part["index"]])

    def rank(processes: Processes) -> np.ndarray:
        return attacked(quarters(), tmp_path / "b", attack, processes=processes).rows

    assert all(np.array_equal(rows, whole.rows) for rows in as_processes(2, rank))


def test_the_seed_decides_what_is_found(classifier, tmp_path) -> None:
    attack = Square(queries=3)
    outcomes = {
        tuple(attacked(classifier, tmp_path, attack, seed=seed).rows["outcome"].tolist())
        for seed in range(4)
    }
    assert len(outcomes) > 1


def test_a_finished_evaluation_takes_more_without_deleting_a_file(classifier, tmp_path) -> None:
    few = StreamSettings(limit=5, progress=False)
    attacked(classifier, tmp_path, PGD(steps=2), streaming=few)
    more = attacked(classifier, tmp_path, PGD(steps=2))
    assert len(more.rows) == 40
    further = attacked(classifier, tmp_path, PGD(steps=2), epsilons=(*RADII, 64 / 255))
    assert len(further.curve()) == 5
    longer = attacked(classifier, tmp_path, PGD(steps=3))
    assert longer.evaluator.described()["steps"] == 3


def test_an_attack_that_leaves_the_ball_is_not_counted(classifier, tmp_path, monkeypatch) -> None:
    class Cheat(FGSM):
        def __call__(self, model, images, labels, **options):
            return images + 2 * self.epsilon

    monkeypatch.setitem(ATTACKS._parts, "cheat", Cheat)
    with pytest.raises(VitreousError, match="cheat returned images in"):
        attacked(classifier, tmp_path, Cheat())


def test_findings_come_with_the_result(tmp_path) -> None:
    model = quarters()
    model.train()
    found = attacked(model, tmp_path, FGSM())
    assert [f.name for f in found.findings] == ["train mode"] and model.training


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


def test_what_processes_saw_of_their_shares_adds_up() -> None:
    class Rounded(Quarters):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward((images * 32).round() / 32)

    inputs, model = Stripes(), Classifier(Rounded()).eval()
    images, labels = inputs.images, inputs.labels
    seeds = list(range(len(images)))
    whole = observe(model, images, labels, attacked=16, seeds=seeds)
    halves = [
        observe(model, images[rank::2], labels[rank::2], attacked=8, seeds=seeds[rank::2])
        for rank in range(2)
    ]
    assert halves[0] + halves[1] == whole and whole.attacked == 16 and whole.blind > 0
    assert [f.message for f in (halves[0] + halves[1]).findings()] == [
        f.message for f in whole.findings()
    ]
    few = [observe(model, images[rank : rank + 1], labels[rank : rank + 1]) for rank in range(2)]
    assert (few[0] + few[1]).images == 2


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
    stripes = Stripes()
    image, label = stripes.images[30], int(stripes.labels[30])
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
    plain = [*common, "--data", str(tmp_path / "set"), "--workers", "0"]
    measure = [*plain, "--attack", "pgd", "fgsm", "--steps", "3"]
    out = tmp_path / "out"
    assert cli.main([*measure, "--out", str(out), "--keep", "1"]) == 0
    results = Results.read(out)
    values = {
        (r.settings["attack"], r.settings["epsilon"]): r.value for r in results.find(suite="attack")
    }
    assert len(values) == 6 and values["pgd", 0.0] >= values["pgd", 2 / 255]
    (curve,) = (out / "attacks").glob("set-????????-linf_curve.png")
    (set_name,) = {path.parent.parent.name for path in (out / "attacks").glob("*/*/*_clean.png")}
    assert curve.name.startswith(set_name)
    before = capsys.readouterr().out
    assert "left out" not in before
    (tmp_path / "map.json").write_text('{"a": 0, "b": 1, "c": []}')
    mapped = [*measure, "--class-map", str(tmp_path / "map.json")]
    assert cli.main([*mapped, "--out", str(tmp_path / "mapped")]) == 0
    told = capsys.readouterr().out
    assert "left out of set: 3 images whose label is no class of the model (c/0.png" in told
    assert {r.n for r in Results.read(tmp_path / "mapped").find(suite="attack")} == {6}
    assert cli.main([*measure, "--out", str(out)]) == 0
    assert capsys.readouterr().out == before
    sequence = ["--attack", "sequence", "--norm", "l2", "--members", "apgd_ce", "square"]
    few = ["--steps", "2", "--queries", "5", "--restarts", "2", "--epsilon", "0.5"]
    assert cli.main([*plain, *sequence, *few, "--out", str(out)]) == 0
    (found,) = Results.read(out).find(attack="sequence", epsilon=0.5)
    assert found.settings["members"] == ["apgd_ce", "square"] and found.settings["restarts"] == 2
    image = str(tmp_path / "set" / "a" / "0.png")
    show = [*common, "--image", image, "--target", "2", "--out", str(out)]
    assert cli.main(show) == 0
    assert (out / "0_attack.png").is_file() and (out / "0_attack.gif").is_file()
    capsys.readouterr()
    for wrong, said in (
        ([*common], "give either --data"),
        ([*show, "--target", "7"], "is no class"),
        ([*show, "--attack", "fgsm", "--steps", "3"], "--steps does not belong to fgsm"),
        ([*show, "--attack", "fgsm", "--members", "pgd"], "--members does not belong to fgsm"),
        ([*plain, "--attack", "autoattack"], "needs 10 classes, the model has 3"),
        ([*plain, "--attack", "autoattack", "--members", "fbb"], "did you mean 'fab'?"),
    ):
        assert cli.main(wrong) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
