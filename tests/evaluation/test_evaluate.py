"""Streaming, resuming, sharing between processes, bad files, records and the command."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitreous.cli import main
from vitreous.data.images import evaluation_crop
from vitreous.errors import VitreousError
from vitreous.evaluation.comparison import comparison_records
from vitreous.evaluation.evaluators.accuracy import predict, predictions
from vitreous.evaluation.evaluators.rotation import Rotation, rotation_records
from vitreous.evaluation.loading import center_transform
from vitreous.evaluation.records import accuracy_records, entry_of, shape_bias_records
from vitreous.evaluation.stream import StreamSettings
from vitreous.evaluation.suites import load_suite, suite_names
from vitreous.evaluation.test_sets import TestSet, read_set
from vitreous.models import Classifier, Preprocessing
from vitreous.processes import Processes
from vitreous.results import wilson_interval

SHADES = 5
QUIET = StreamSettings(batch_size=4, progress=False)


class Meter:
    """How many images a model has seen, and when it is interrupted; no setting of the model."""

    seen = 0
    limit = 10**9


class Shade(nn.Module):
    """Class = the fifth of the brightness range that a picture's mean lies in."""

    num_classes = SHADES

    def __init__(self) -> None:
        super().__init__()
        self.meter = Meter()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.meter.seen += len(images)
        if self.meter.seen > self.meter.limit:
            raise KeyboardInterrupt
        middles = (torch.arange(SHADES) + 0.5) / SHADES
        return -((images.mean((1, 2, 3))[:, None] - middles) ** 2) * 50


def shade_classifier() -> Classifier:
    return Classifier(
        Shade(), (0.0,) * 3, (1.0,) * 3, name="shade", preprocessing=Preprocessing((8, 8), 1.0)
    )


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Twenty flat pictures in five folders; the last of each folder is of the next shade."""
    root = tmp_path / "shades"
    for label in range(SHADES):
        for i in range(4):
            shade = label if i < 3 else (label + 1) % SHADES
            value = int((shade + 0.5) / SHADES * 255)
            (root / f"s{label}").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 12), (value,) * 3).save(root / f"s{label}" / f"{i}.png")
    return root


class Overflowing(Shade):
    """Gives no finite answer to a bright picture."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return torch.where(images.mean((1, 2, 3))[:, None] > 0.8, torch.inf, logits)


def test_answers_that_are_not_finite_are_no_unreadable_images(shades: Path, tmp_path: Path) -> None:
    preprocessing = Preprocessing((8, 8), 1.0)
    net = Overflowing()
    model = Classifier(net, (0.0,) * 3, (1.0,) * 3, name="x", preprocessing=preprocessing)
    found = predictions(model, shade_set(shades), tmp_path / "rows", streaming=QUIET)
    records = {r.metric: r for r in accuracy_records(found)}
    assert (records["unreadable"].value, records["not_finite"].value) == (0, 4)
    assert records["top1"].value == 12 / 20  # of the 15 that are of their own shade, 3 are bright
    entry = entry_of(found)
    assert entry["unreadable"] == {"count": 0, "files": []}
    assert entry["not_finite"] == {
        "count": 4,
        "files": ["s3/3.png", "s4/0.png", "s4/1.png", "s4/2.png"],
    }
    healthy = predictions(shade_classifier(), shade_set(shades), tmp_path / "2", streaming=QUIET)
    assert "not_finite" not in {r.metric for r in accuracy_records(healthy)}


def shade_set(root: Path) -> TestSet:
    (found,) = read_set("folder", root, num_classes=SHADES)
    return found


def test_accuracy_has_n_and_the_wilson_interval(shades: Path, tmp_path: Path) -> None:
    found = predictions(shade_classifier(), shade_set(shades), tmp_path, streaming=QUIET)
    records = {r.metric: r for r in accuracy_records(found)}
    assert (records["top1"].value, records["top1"].n) == (0.75, 20)
    assert records["top1"].ci95 == wilson_interval(15, 20)
    assert records["top5"].value == 1.0
    assert records["unreadable"].value == 0
    assert records["top1"].settings["convention"] == "all classes"


def test_a_killed_evaluation_goes_on_where_it_was(shades: Path, tmp_path: Path) -> None:
    whole = predictions(shade_classifier(), shade_set(shades), tmp_path / "a", streaming=QUIET)
    classifier = shade_classifier()
    classifier.net.meter.limit = 10
    with pytest.raises(KeyboardInterrupt):
        predictions(classifier, shade_set(shades), tmp_path / "b", streaming=QUIET)
    rows = next((tmp_path / "b").rglob("rows-0.bin"))
    with rows.open("ab") as opened:
        opened.write(b"\x07\x00")  # half a row: the process died while writing
    again = shade_classifier()
    found = predictions(again, shade_set(shades), tmp_path / "b", streaming=QUIET)
    assert again.net.meter.seen == 20 - 8  # two batches of four were kept
    assert np.array_equal(found.rows, whole.rows)
    third = shade_classifier()
    predictions(third, shade_set(shades), tmp_path / "b", streaming=QUIET)
    assert third.net.meter.seen == 0


def test_two_processes_give_the_rows_of_one(shades: Path, tmp_path: Path) -> None:
    one = predictions(shade_classifier(), shade_set(shades), tmp_path / "a", streaming=QUIET)
    seen = []
    for rank in (0, 1):
        # Each process takes its share of what was left when both had looked at the disk.
        classifier, share = shade_classifier(), np.arange(20)[rank::2]
        rows = [r for r, _ in predict(classifier, shade_set(shades), share, streaming=QUIET)]
        seen.append(np.concatenate(rows))
    both = np.sort(np.concatenate(seen), order="index")
    both["key"] = one.rows["key"]
    assert np.array_equal(both, one.rows)

    classifier = shade_classifier()
    shared = tmp_path / "b"
    half = predictions(
        classifier, shade_set(shades), shared, streaming=QUIET, processes=Processes(1, 2)
    )
    assert half.rows["index"].tolist() == list(range(1, 20, 2))
    rest = predictions(shade_classifier(), shade_set(shades), shared, streaming=QUIET)
    assert np.array_equal(rest.rows, one.rows)


def test_other_weights_or_pictures_do_not_reuse_rows(shades: Path, tmp_path: Path) -> None:
    predictions(shade_classifier(), shade_set(shades), tmp_path, streaming=QUIET)
    other = shade_classifier()
    other.mean += 0.5
    predictions(other, shade_set(shades), tmp_path, streaming=QUIET)
    assert other.net.meter.seen == 20
    Image.new("RGB", (4, 4)).save(shades / "s0" / "new.png")
    more = shade_classifier()
    found = predictions(more, shade_set(shades), tmp_path, streaming=QUIET)
    assert (more.net.meter.seen, len(found.rows)) == (1, 21)  # it alone was measured


def test_bad_files_are_named_and_stay_in_n(tmp_path: Path) -> None:
    folder, gray = tmp_path / "set" / "s2", Image.new("RGB", (9, 9), (127,) * 3)
    folder.mkdir(parents=True)
    gray.save(folder / "good.jpg")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    gray.convert("CMYK").save(folder / "cmyk.jpg")
    gray.convert("L").save(folder / "grey.jpg")
    Image.fromarray(np.full((9, 9), 32_639, np.uint16)).save(folder / "sixteen.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    gray.save(folder / "turned.jpg", exif=exif)
    labels = tmp_path / "map.json"
    labels.write_text(json.dumps({"s2": 2}))
    (test_set,) = read_set("folder", tmp_path / "set", num_classes=SHADES, class_map=labels)
    found = predictions(shade_classifier(), test_set, tmp_path / "rows", streaming=QUIET)
    records = {r.metric: r for r in accuracy_records(found)}
    assert (records["top1"].n, records["unreadable"].value) == (8, 3)
    assert records["top1"].value == 5 / 8
    assert records["nll"].n == 5
    bad = {test_set.dataset.name(i): why for i, why in found.reasons.items()}
    assert sorted(bad) == ["s2/cut.jpg", "s2/empty.jpg", "s2/text.jpg"]
    assert "0 bytes" in bad["s2/empty.jpg"]


class Scales(Shade):
    """Weighs what the process holds before each pass: tensors, and what Python allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[int, int]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gc.collect()
        tensors = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor)]
        self.held.append((sum(t.nbytes for t in tensors), tracemalloc.get_traced_memory()[0]))
        return super().forward(images)


def test_no_image_outlives_its_batch(tmp_path: Path) -> None:
    """Eight batches of 2.4 MB: the last pass begins with as much in memory as the third."""
    (tmp_path / "set" / "s0").mkdir(parents=True)
    for number in range(24):
        Image.new("RGB", (256, 256), (number,) * 3).save(tmp_path / "set" / "s0" / f"{number}.png")
    (test_set,) = read_set("folder", tmp_path / "set", num_classes=SHADES, class_names=("s0",))
    plain, view = ((0.0,) * 3, (1.0,) * 3), Preprocessing((256, 256), 1.0)
    streaming = StreamSettings(batch_size=3, progress=False)
    gc.collect()
    gc.freeze()  # what is there already is not looked through again and again
    tracemalloc.start()
    try:
        for whole in (False, True):
            net = Scales()
            classifier = Classifier(net, *plain, preprocessing=view)
            if whole:
                predictions(classifier, test_set, tmp_path / "rows", streaming=streaming)
            else:
                assert len(list(predict(classifier, test_set, streaming=streaming))) == 8
            assert len(net.held) == 8
            tensors, allocated = zip(*net.held)
            assert max(tensors[3:]) <= tensors[2]
            assert max(allocated[3:]) < allocated[2] + 3 * 256 * 256, "less than one image"
    finally:
        tracemalloc.stop()
        gc.unfreeze()


def test_rows_come_in_order_whatever_the_workers(shades: Path) -> None:
    """What `predict` yields are rows of a batch, in order, whatever the number of workers."""
    parts = list(predict(shade_classifier(), shade_set(shades), streaming=QUIET))
    assert [len(rows) for rows, _ in parts] == [4] * 5
    workers = StreamSettings(batch_size=4, workers=1, progress=False)
    again = list(predict(shade_classifier(), shade_set(shades), streaming=workers))
    assert np.array_equal(
        np.concatenate([r for r, _ in parts]), np.concatenate([r for r, _ in again])
    )


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 200), (300, 301)])
def test_the_quick_view_is_the_models_own(size: tuple[int, int], interpolation: str) -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (size[1] // 3, size[0] // 3, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)
    own = Preprocessing((224, 224), 0.875, interpolation)
    seen, expected = (
        np.asarray(v(image)).astype(int) for v in (center_transform(own), evaluation_crop(own))
    )
    assert seen.shape == expected.shape == (224, 224, 3)
    assert np.abs(seen - expected).max() <= 2 and (seen != expected).mean() < 0.01


def test_a_limit_spreads_over_the_set(shades: Path, tmp_path: Path) -> None:
    streaming = StreamSettings(limit=5, progress=False)
    found = predictions(shade_classifier(), shade_set(shades), tmp_path, streaming=streaming)
    assert found.rows["index"].tolist() == [0, 4, 9, 14, 19]


class TopBrighter(nn.Module):
    """Class 1 where the upper half is brighter than the lower one."""

    num_classes = 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height = images.shape[2] // 2
        up = images[:, :, :height].mean((1, 2, 3)) - images[:, :, height:].mean((1, 2, 3))
        return torch.stack([-up, up], 1)


def test_turning_changes_what_depends_on_the_direction_and_nothing_else(
    tmp_path: Path,
) -> None:
    for label in (0, 1):
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[slice(0, 4) if label else slice(4, 8)] = 200
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(pixels).save(tmp_path / "set" / str(label) / f"{i}.png")
    (test_set,) = read_set("folder", tmp_path / "set", num_classes=2)
    classifier = Classifier(
        TopBrighter(), (0.0,) * 3, (1.0,) * 3, preprocessing=Preprocessing((8, 8), 1.0)
    )

    def answers(angle: float):
        turn = Rotation(angle)
        return predictions(
            classifier,
            test_set,
            tmp_path,
            streaming=QUIET,
            perturbation=turn,
        )

    base = predictions(classifier, test_set, tmp_path, streaming=QUIET)
    records, extra = rotation_records(base, [answers(a) for a in (90.0, 180.0, 270.0)])
    value = {(r.metric, r.settings.get("angle")): r.value for r in records}
    assert value["top1", 180.0] == 0.0 and value["invariance", 180.0] == 0.0
    assert value["top1", 0.0] == 1.0
    assert value["invariance", None] == 0.0
    assert extra["rotation"]["angle"] == [0.0, 90.0, 180.0, 270.0]


def test_shape_bias_of_a_hand_computed_case(tmp_path: Path) -> None:
    names = ["airplane/airplane1-bear1", "airplane/airplane2-cat1", "bear/bear1-cat2"]
    for name in [*names, "cat/cat1-dog1"]:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / f"{name}.png")
    (test_set,) = read_set("cue-conflict", tmp_path / "set")

    class Fixed(nn.Module):
        """Answers shape, texture, neither, shape."""

        num_classes = 1000

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            answers = torch.tensor([404, 281, 766, 281])  # airplane, cat, oven, cat
            return nn.functional.one_hot(answers, 1000).float() * 20

    classifier = Classifier(Fixed(), preprocessing=Preprocessing((8, 8)))
    found = predictions(classifier, test_set, tmp_path, streaming=QUIET)
    (record,), extra = shape_bias_records(found)
    assert (record.value, record.n) == (pytest.approx(2 / 3), 3)
    assert sum(extra["shape_bias"]["other"]) == 1


def test_two_models_are_compared_on_the_same_pictures(shades: Path, tmp_path: Path) -> None:
    first = shade_classifier()
    second = shade_classifier()
    second.mean += 0.2  # every picture looks one shade darker
    a = predictions(first, shade_set(shades), tmp_path / "a", streaming=QUIET)
    b = predictions(second, shade_set(shades), tmp_path / "b", streaming=QUIET)
    records = {r.metric: r for r in comparison_records(a, b, "first")}
    difference = records["top1_difference"]
    assert difference.value == b.correct().mean() - a.correct().mean()
    assert difference.ci95[0] <= difference.value <= difference.ci95[1] < 0
    same = (a.rows["prediction0"] == b.rows["prediction0"]).mean()
    assert records["agreement"].value == same


def test_a_model_with_other_classes_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "n01443537").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "n01443537" / "a.png")
    (test_set,) = read_set("imagenet-val", tmp_path)
    with pytest.raises(VitreousError, match="1000 classes, but shade has 5"):
        list(predict(shade_classifier(), test_set, streaming=QUIET))


def test_suites_are_read_strictly(tmp_path: Path) -> None:
    for name in suite_names():
        assert load_suite(name).description
    own = tmp_path / "mine.yaml"
    own.write_text("sets: [{name: imagenet-q}]\n")
    with pytest.raises(VitreousError, match="imagenet-"):
        load_suite(str(own))
    with pytest.raises(VitreousError, match="did you mean 'imagenet-shifts'"):
        load_suite("imagenet-shift")


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "vit_tiny_patch16_224"]) == 1
    assert main(["evaluate", "--suite", "rotation"]) == 1
    assert main(["evaluate", "x", "--suite", "rotations"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3 and all(line.startswith("vitreous: ") for line in lines)


def test_a_generated_set_is_evaluated_by_what_it_varies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[4:16, 5:25] = (200, 30, 30, 255)
    (tmp_path / "cut" / "zebra").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "cut" / "zebra" / "a.png")
    (tmp_path / "ground").mkdir()
    Image.new("RGB", (40, 40), (20, 90, 40)).save(tmp_path / "ground" / "a.png")
    arguments = ["--generate.cutouts", str(tmp_path / "cut")]
    arguments += ["--generate.backgrounds", str(tmp_path / "ground"), "--generate.factor", "size"]
    arguments += ["--generate.steps", "3", "--generate.size", "32", "--out", str(tmp_path / "set")]
    assert main(["evaluate", *arguments]) == 0
    (found,) = read_set("si-score-size", tmp_path / "set")
    assert len(found) == 3 and len(set(found.factors["area"].tolist())) == 3
    assert len(list((tmp_path / "set" / "masks").rglob("*.png"))) == 3
