"""The figures of both papers that our recipes aim at, each with its command and its state.

    python benchmarks/evidence/published.py

writes the tables of `docs/results/published.md`. Brain scores come from the package's
`published.json`, the others from the papers; of ours it says where it was measured, nothing else.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pages import write_between

from vitreous.brain.score import published
from vitreous.training import load_recipe

PAGE = Path(__file__).parents[2] / "docs" / "results" / "published.md"
MARKS = ("<!-- tables: benchmarks/evidence/published.py -->", "<!-- end of the tables -->")
MASKS = "--data.images imagenet/train --data.masks imagenet-s/masks"
IMAGES = "--data.images imagenet/train --data.validation_images imagenet/val"
WAITS = "waits for ImageNet, ImageNet-S's masks, the weights and the test set"
SMALLER = f"{WAITS}; asked [at a smaller scale](index.md)"
NOT_AT_HAND = "not at hand"
FEW = "[at a smaller scale](index.md#from-three-images-of-every-second-class)"
MAKINGS = "index.md#masks-of-three-makings"
TRANSFORMERS = "waits for ImageNet and the weights; asked [at a smaller scale](adversarial.md)"


@dataclasses.dataclass(frozen=True)
class Row:
    """A published figure.

    Attributes:
        figure: What was measured, of which model.
        value: As published.
        commands: What makes ours.
        state: Where something like it was measured, or what it waits for.
    """

    figure: str
    value: str
    commands: tuple[str, ...]
    state: str


def before_and_after(recipe: str) -> str:
    """The model that a recipe starts from, and the run that it makes."""
    before = load_recipe(recipe, {"data": {"images": "images", "masks": "masks"}}).model.name
    return f"{before} runs/{recipe.partition('/')[2]}"


def guided(recipe: str, suite: str = "imagenet-shifts") -> tuple[str, ...]:
    """Finetune by a recipe, and measure before and after."""
    run, masks = f"runs/{recipe.partition('/')[2]}", MASKS
    if recipe.endswith("tokencut"):
        masks = masks.replace("imagenet-s/masks", "tokencut/")
    return (
        f"vitreous train {recipe} {masks} --out {run}",
        f"vitreous evaluate {before_and_after(recipe)} --suite {suite} --root data",
    )


OBJECTNET = {
    "vit_base": ("ViT-B/16", "35.1 → 42.2"),
    "vit_large": ("ViT-L/16", "37.4 → 43.2"),
    "augreg_small": ("AugReg ViT-S/16", "34.3 → 39.3"),
    "augreg_base": ("AugReg ViT-B/16", "41.4 → 47.1"),
    "augreg_large": ("AugReg ViT-L/16", "46.5 → 52.0"),
    "deit_base": ("DeiT-B/16", "31.4 → 36.3"),
}
OTHERS = {
    "validation": "--sets imagenet-val --root data",
    "ImageNet-A": "--sets imagenet-a --root data",
    "ImageNet-R": "--sets imagenet-r --root data",
    "ImageNet-V2": "--sets imagenet-v2-matched-frequency --root data",
    "Sketch": "--sets imagenet-sketch --root data",
    "SI-Score location": "--sets si-score-location --root data",
    "SI-Score rotation": "--sets si-score-rotation --root data",
    "SI-Score size": "--sets si-score-size --root data",
    "ImageNet-Segmentation": "--segmentation gtsegs_ijcv.mat",
}
ABLATIONS = {
    "ablation_label_target": ("the label as the target of classification", SMALLER),
    "ablation_no_foreground": ("no foreground term", WAITS),
    "ablation_no_background": ("no background term", WAITS),
    "ablation_no_classification": ("no classification term", WAITS),
    "ablation_half_classes": ("250 classes", f"{WAITS}; half of the classes {FEW}"),
    "ablation_one_picture": ("one image a class", f"{WAITS}; three images a class {FEW}"),
    "ablation_tokencut": ("TokenCut's masks", f"{WAITS}; asked [at a smaller scale]({MAKINGS})"),
    "gradmask": ("GradMask", SMALLER),
    "rrr": ("RRR", SMALLER),
}


def of_model(recipe: str, model: str, objectnet: str) -> list[Row]:
    """A row for each test set of the paper: ObjectNet, whose figure is at hand, then the others."""
    told = f"{model}, before → after"
    measured = f"vitreous evaluate {before_and_after(recipe)}"
    first = Row(f"ObjectNet top-1 of {told}", objectnet, guided(recipe), WAITS)
    others = [
        Row(f"{title} of {told}", NOT_AT_HAND, (f"{measured} {options}",), WAITS)
        for title, options in OTHERS.items()
    ]
    return [first, *others]


ROBUST_VIT = [
    *(
        row
        for name, (model, value) in OBJECTNET.items()
        for row in of_model(f"robust_vit/{name}", model, value)
    ),
    Row(
        "ViT-B/16 on validation, A, R, Sketch, V2 (a reproduction of three seeds)",
        "81.6–81.7, 20.7–21.1, 35.1–35.3, 35.6–35.8, 71.2–71.4",
        guided("robust_vit/vit_base"),
        WAITS,
    ),
    Row("DeiT-S/16: a recipe, no figure", "–", guided("robust_vit/deit_small"), WAITS),
    *(
        Row(f"ViT-B/16, {what}", NOT_AT_HAND, guided(f"robust_vit/{name}"), state)
        for name, (what, state) in ABLATIONS.items()
    ),
]
BRAIN = {
    "CrossViT-18†": ("crossvit_18_dagger_408.in1k", ""),
    "CrossViT-18† + rotation": ("runs/rot", "18_dagger_408_rot"),
    "CrossViT-18† + adversarial": ("runs/adv", "18_dagger_408_adv"),
    "CrossViT-18† + both": ("runs/both", "18_dagger_408_adv_rot"),
}
ASSEMBLIES = {"V1": "FreemanZiemba2013", "V2": "FreemanZiemba2013", "V4": "MajajHong2015"}
WITHOUT_FIGURE = (
    "18_dagger_408_gray",
    "18_dagger_408_adv_rot_gray",
    "15_dagger_240_adv_rot",
    "9_dagger_240_adv_rot",
    "vit_small_16_adv_rot",
    "vit_small_32_adv_rot",
    "vit_base_16_adv_rot",
    "vit_base_32_adv_rot",
    "vit_base_8_adv_rot",
    "vit_large_16_adv_rot",
    "swin_large_adv_rot",
)


def crossvit() -> list[Row]:
    """A row for each figure of each of the paper's four models, and one for each other recipe."""
    known, rows = published(), []
    for entry in known["models"]:
        model, recipe = BRAIN[entry["name"]]
        first = (f"vitreous train crossvit/{recipe} {IMAGES} --out {model}",) if recipe else ()
        layers = known["layers"]["adversarial" if "adv" in recipe else "plain"]
        measure = f"vitreous evaluate {model} --sets imagenet-val --root data"
        value = f"{100 * entry['imagenet_top1']:.2f}"
        rows.append(Row(f"{entry['name']}, ImageNet top-1", value, (*first, measure), TRANSFORMERS))
        for region in known["regions"]:
            rows.append(
                Row(
                    f"{entry['name']}, {region}",
                    f"{entry[region]:.3f}",
                    (score(model, region, layers),),
                    brain_state(region),
                )
            )
        rows.append(
            Row(f"{entry['name']}, mean of the five", f"{entry['mean']:.3f}", (), "the rows above")
        )
    for recipe in WITHOUT_FIGURE:
        command = f"vitreous train crossvit/{recipe} {IMAGES} --out runs/{recipe}"
        rows.append(
            Row(f"`{recipe}`: a published configuration, no figure", "–", (command,), TRANSFORMERS)
        )
    return rows


def score(model: str, region: str, layers: dict[str, str]) -> str:
    """The command of a brain score, on the published layer."""
    if region == "behaviour":
        layer = layers.get(region, layers["IT"])
        return f"vitreous brain behaviour {model} --trials Rajalingham2018.private --layer {layer}"
    assembly = ASSEMBLIES.get(region, "MajajHong2015")
    return (
        f"vitreous brain score {model} --assembly {assembly}.private "
        f"--layers {region}={layers[region]}"
    )


def brain_state(region: str) -> str:
    """What a region's score waits for."""
    waits = "waits for the weights and Brain-Score's private recording"
    return (
        f"{waits}; small models on [other recordings](rotation.md)"
        if region in ("V4", "IT")
        else waits
    )


def table(rows: list[Row]) -> list[str]:
    """Rows as Markdown."""
    lines = ["| figure | published | command | state |", "| --- | --- | --- | --- |"]
    for row in rows:
        commands = "<br>".join(f"`{command}`" for command in row.commands) or "–"
        lines.append(f"| {row.figure} | {row.value} | {commands} | {row.state} |")
    return lines


def main() -> None:
    """Write the tables."""
    lines = ["## Optimizing relevance maps (RobustViT)", "", *table(ROBUST_VIT), ""]
    lines += ["## CrossViT, adversarial and rotational", "", *table(crossvit())]
    write_between(PAGE, MARKS, lines)
    print(PAGE)


if __name__ == "__main__":
    main()
