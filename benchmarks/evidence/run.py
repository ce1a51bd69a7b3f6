"""What people would do with a few masks, arm by arm, learning rate by learning rate.

    python benchmarks/evidence/run.py --data evidence/data --start MODEL --out evidence/runs
    python benchmarks/evidence/run.py --data evidence/data --start MODEL --out evidence/few \
        --images train_3 --rates 2e-6 8e-6 --tests original random_class --limit 600

Every arm starts from the same model, sees the same images for the same number of steps and is
searched over the same learning rates; a run that is finished is not made again, one that was
killed goes on. Each run, and the model that all start from, is measured on every test set; with
`--explain`, also what it looks at, against the masks of `masks.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from small import LABEL, TRANSFORMS

from vitreous import cli
from vitreous.data.readers import read_dataset
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.pixel_removal import removal_area
from vitreous.evaluation.stream import StreamSettings
from vitreous.io import write_json
from vitreous.models import load_model

RATES = ("2e-6", "8e-6", "2e-5")
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"extends": "photographs/plain"},
    "guidance": {"extends": "photographs/guided"},
    "guidance_own_prediction": {
        "extends": "photographs/guided",
        "objectives": {"classification": {"target": "prediction"}},
    },
    "swap": {"extends": "photographs/swapped"},
    "guidance_and_swap": {"extends": "photographs/guided_swapped"},
} | {
    name: {"extends": "photographs/_base", "objectives": {**LABEL, **penalty}}
    for name, penalty in {
        "gradmask": {"gradmask": {"weight": 0.8}},
        "gradmask_80": {"gradmask": {"weight": 80.0}},
        "rrr": {"rrr": {"weight": 0.8}},
        "rrr_0.008": {"rrr": {"weight": 0.008}},
    }.items()
}
# Passes over the list: more of them over few images. Masks by boxes, by SAM, by TokenCut.
EPOCHS = {"train_16": 4, "train_16_sam": 4, "train_16_tokencut": 4, "train_3": 6}


def recipe(data: Path, start: str, images: str, arm: str) -> dict[str, Any]:
    """One arm's recipe, as plain values.

    From 16 images a class the epoch that is best on held-out images is kept; from three the last,
    since who has three has none to hold out.
    """
    held_out: dict[str, Any] = {"validation_images": str(data / "held_out.csv")}
    if images == "train_3":
        held_out = {"validation_share": 0.0}
    return {
        "description": f"Evidence on photographs: {arm} from {images}.",
        "model": {"name": start},
        "data": {
            "name": "folders",
            "images": str(data / f"{images}.csv"),
            **held_out,
            "class_list": str(data / "classes.txt"),
        },
        "transforms": TRANSFORMS,
        "training": {"epochs": EPOCHS[images], "trackers": [], "samples": 0},
        **ARMS[arm],
    }


def vitreous(*arguments: str) -> None:
    """Run a command in this process, so that torch is imported once; an error ends the whole."""
    if status := cli.main(list(arguments)):
        raise SystemExit(status)


def train(arguments: argparse.Namespace, images: str, arm: str, rate: str, seed: int) -> Path:
    """Train one arm, unless that was done."""
    out = arguments.out / images / f"{arm}-{rate}-{seed}"
    file = out.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = recipe(arguments.data, arguments.start, images, arm)
    file.write_text(yaml.safe_dump(settings, sort_keys=False))  # transforms apply in their order
    if not (out / "results.json").is_file():
        options = ("--optimizer.lr", rate, "--training.seed", str(seed))
        vitreous("train", str(file), "--out", str(out), "--quiet", *options)
    return out


def measure(model: str | Path, arguments: argparse.Namespace, out: Path) -> None:
    """Accuracy of a model on the test sets, unless that was measured."""
    common = ("--quiet", "--workers", "0")
    tests = [str(arguments.data / "tests" / name) for name in tests_of(arguments)]
    if not (out / "results.json").is_file():
        options = ("--precision", "bfloat16", "--limit", str(arguments.limit), "--out", str(out))
        vitreous("evaluate", str(model), "--data", *tests, *options, *common)
    if arguments.explain:
        explained(model, arguments, out.parent / f"{out.name}.json")


def explained(model: str | Path, arguments: argparse.Namespace, file: Path) -> None:
    """What a model looks at on the originals: image by image, unless that was measured.

    Of the map of the predicted class: its share on the object, and the areas (in per cent) under
    the curves of accuracy as the most, and the least, relevant pixels are removed.
    """
    if file.is_file():
        return
    classifier, tests = load_model(str(model)), arguments.data / "tests"
    names = classifier.class_names
    shown = read_dataset(tests / "original", names, masks=arguments.data / "masks_val")
    found = measure_explanations(
        classifier,
        shown,
        "original",
        file.parent / "looked_at" / file.stem,
        explaining=ExplanationSettings(passes="bfloat16"),
        streaming=StreamSettings(batch_size=16, limit=arguments.explain, progress=False),
    )
    own = found.rows["gradient_attention"]
    areas = [[removal_area(curve) for curve in pair] for pair in own["removal"].astype(float)]
    table = {"share": own["share"], "positive": np.array(areas)[:, 0]}
    table |= {"negative": np.array(areas)[:, 1]}
    values = {name: np.round(column, 4).tolist() for name, column in table.items()}
    curves = own["removal"].mean(0).round(4).tolist()
    files = [shown.name(i) for i in found.rows["index"]]
    write_json(file, {"files": files, **values, "curves": curves})


def tests_of(arguments: argparse.Namespace) -> list[str]:
    """Names of the test sets."""
    return arguments.tests or sorted(p.name for p in (arguments.data / "tests").iterdir())


def main() -> None:
    """Make all runs of a grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", required=True, help="folder of the model that arms start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", nargs="+", default=["train_16"], choices=list(EPOCHS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--rates", nargs="+", default=list(RATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tests", nargs="+", help="test sets; all where not given")
    parser.add_argument("--limit", type=int, default=0, help="images of each test set, 0 for all")
    parser.add_argument("--explain", type=int, default=0, help="images that are explained too")
    arguments = parser.parse_args()
    names = json.loads((Path(arguments.start) / "config.json").read_text())["label_names"]
    (arguments.data / "classes.txt").write_text("".join(f"{n}\n" for n in names))
    measure(arguments.start, arguments, arguments.out / "measured" / "start")
    for seed in arguments.seeds:
        for rate in arguments.rates:
            for images in arguments.images:
                for arm in arguments.arms:
                    run = train(arguments, images, arm, rate, seed)
                    measure(run, arguments, arguments.out / "measured" / images / run.name)
                    print(run, flush=True)


if __name__ == "__main__":
    main()
