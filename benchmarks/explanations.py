"""Which relevance map can be believed: nine methods by all metrics, on photographs and on scenes.

    python benchmarks/explanations.py --data tiny_imagenet_50/ --model vits14_tiny50_112/ \
        --out explanations/ --parts maps removal --limit 513
    vitreous train demo/shortcut --model.name src/vitreous/demo/pretrained --out shortcut/
    python benchmarks/explanations.py --scenes --model shortcut/ --out explanations/ --limit 513
    python benchmarks/explanations.py --out explanations/ --page docs/results/explanations.md

Photographs: validation images of a folder with `boxes.json`, their boxes as masks. Scenes: drawn
ones that a model puts into the class of their tag, and into another once the tag is gone: the truth
is known to be the tag, whose pixels are the mask. Metrics are measured in parts that cost
differently, so that each can have its own number of images. A killed run goes on where it was.
Limits of 2^k + 1 (33, 65, 129, 257, 513) hold one another's images: a larger one only adds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from explanations_page import PHOTOGRAPHS, SCENES, write_page
from vitreous import load_model
from vitreous.data.dataset import Dataset
from vitreous.data.generated.scenes import (
    World,
    draw_scenes,
    sample_scenes,
    shift_cues,
    without_cues,
)
from vitreous.data.images import save_image
from vitreous.evaluation.evaluators.explanation import ExplanationSettings, measure_explanations
from vitreous.evaluation.evaluators.method_benchmark import BenchmarkSettings, MethodBenchmark
from vitreous.evaluation.stream import StreamSettings, stream
from vitreous.evaluation.suites import MaskedSettings, load_suite
from vitreous.models import Classifier
from vitreous.models.fingerprint import model_fingerprint
from vitreous.precision import resolve_precision
from vitreous.provenance import provenance
from vitreous.results import Record, Results

sys.path.insert(0, str(Path(__file__).parent / "evidence"))
from prepare import read_boxes

# Part → metrics of the benchmark; `removal` is the evaluator of masks, with removed pixels.
PARTS: dict[str, tuple[str, ...]] = {
    "maps": ("rank_accuracy", "roc_area", "gini", "entropy", "infidelity", "random_logit"),
    "removal": (),
    "flipping": ("pixel_flipping",),
    "road": ("road",),
    "stability": ("max_sensitivity", "parameter_randomization"),
    "attack": ("attacked_correlation",),
    "cost": ("seconds_per_image",),
}


def write_set(data: Path, out: Path) -> None:
    """Validation images and the masks of their boxes, as class folders."""
    for name, (left, top, right, bottom) in read_boxes(data).items():
        file = Path(name)
        if file.parts[0] != "val":
            continue
        filled = np.zeros((64, 64), np.uint8)
        filled[top:bottom, left:right] = 255
        pixels = Image.open(data / name).convert("RGB")
        for kind, image in (("images", pixels), ("masks", Image.fromarray(filled))):
            path = out / kind / file.parts[1] / f"{file.stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                image.save(path)


def write_scenes(classifier: Classifier, out: Path, drawn: int = 1600) -> None:
    """Scenes whose tag decides for this model, and masks of their tags, as class folders."""
    world = World()
    scenes = shift_cues(world, sample_scenes(world, drawn, seed=77), seed=1)
    images, _ = draw_scenes(world, scenes)
    plain, _ = draw_scenes(world, without_cues(scenes))
    with torch.no_grad():
        seen, without = (classifier(x).argmax(1) for x in (images, plain))
    tags = (images - plain).abs().amax(1) > 0
    decided = ((seen == scenes.cues) & (without != scenes.cues)).nonzero()[:, 0].tolist()
    for number in decided:
        label = classifier.class_names[int(scenes.labels[number])]
        for kind, image in (("images", images[number]), ("masks", tags[number].float()[None])):
            path = out / kind / label / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(image.expand(3, -1, -1), path)
    print(f"{len(decided)} of {drawn} scenes are decided by their tag")


def measure(
    classifier: Classifier,
    dataset: Dataset,
    name: str,
    out: Path,
    part: str,
    streaming: StreamSettings,
) -> list[Record]:
    """Measure one part on the set; rows are kept below `out`."""
    methods, rows = load_suite("explanations").methods, out / "predictions"
    # No map is made of the changed images' passes, and bfloat16 is several times as fast.
    passes = resolve_precision("auto", classifier.device)
    masked = ExplanationSettings(methods, passes=passes)
    if part == "removal":
        explained = measure_explanations(
            classifier, dataset, name, rows, explaining=masked, streaming=streaming
        )
        return explained.records()
    evaluator = MethodBenchmark(name, methods, BenchmarkSettings(passes=passes), PARTS[part])
    view = masked.view(classifier.preprocessing)
    measured = stream(classifier, dataset, evaluator, rows, view=view, streaming=streaming)
    return evaluator.records(measured.rows)


def main() -> None:
    """Prepare, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="with boxes.json; not needed for the page alone")
    parser.add_argument("--scenes", action="store_true", help="draw them for --model")
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=int, default=513, help="images; 0 means all")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--speed", type=Path, help="what explanation_metrics.py wrote")
    arguments = parser.parse_args()
    if arguments.data is not None or arguments.scenes:
        classifier = load_model(arguments.model)
        name, place = PHOTOGRAPHS, arguments.out
        if arguments.scenes:
            name, place = SCENES, arguments.out / "scenes"
            write_scenes(classifier, place)
        else:
            write_set(arguments.data, place)
        folders = (place / "images").absolute(), (place / "masks").absolute()
        dataset = MaskedSettings(name, *folders).read(folders[0], tuple(classifier.class_names))
        streaming = StreamSettings(batch_size=arguments.batch_size, limit=arguments.limit)
        fingerprint = model_fingerprint(classifier)
        made = provenance("explanations", model=Path(arguments.model).name, fingerprint=fingerprint)
        for part in arguments.parts:
            records = measure(classifier, dataset, name, arguments.out, part, streaming)
            Results.update(arguments.out, records, made)
    if arguments.page is not None:
        write_page(arguments.out, arguments.page, arguments.speed)


if __name__ == "__main__":
    main()
