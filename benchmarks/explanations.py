"""Which relevance map can be believed: nine methods by all metrics, on photographs with boxes.

    python benchmarks/explanations.py --data tiny_imagenet_50/ --model vits14_tiny50_112/ \
        --out explanations/ --parts maps removal --limit 513
    python benchmarks/explanations.py --out explanations/ --page docs/results/explanations.md

Validation images of a folder with `boxes.json`, their boxes as masks. Metrics are measured in parts
that cost differently, so that each can have its own number of images. A killed run goes on where it
was. Limits of 2^k + 1 (33, 65, 129, 257, 513) hold one another's images: a larger one only adds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from explanations_page import NAME, write_page  # ty: ignore[import-not-found]
from vitreous import load_model
from vitreous.data.dataset import Dataset
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


def measure(
    classifier: Classifier, dataset: Dataset, out: Path, part: str, streaming: StreamSettings
) -> list[Record]:
    """Measure one part on the set; rows are kept below `out`."""
    methods, rows = load_suite("explanations").methods, out / "predictions"
    # No map is made of the changed images' passes, and bfloat16 is several times as fast.
    passes = resolve_precision("auto", classifier.device)
    masked = ExplanationSettings(methods, passes=passes)
    if part == "removal":
        explained = measure_explanations(
            classifier, dataset, NAME, rows, explaining=masked, streaming=streaming
        )
        return explained.records()
    evaluator = MethodBenchmark(NAME, methods, BenchmarkSettings(passes=passes), PARTS[part])
    view = masked.view(classifier.preprocessing)
    measured = stream(classifier, dataset, evaluator, rows, view=view, streaming=streaming)
    return evaluator.records(measured.rows)


def main() -> None:
    """Prepare, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="with boxes.json; not needed for the page alone")
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--limit", type=int, default=513, help="images; 0 means all")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--speed", type=Path, help="what explanation_metrics.py wrote")
    arguments = parser.parse_args()
    if arguments.data is not None:
        write_set(arguments.data, arguments.out)
        classifier = load_model(arguments.model)
        folders = (arguments.out / "images").absolute(), (arguments.out / "masks").absolute()
        dataset = MaskedSettings(NAME, *folders).read(folders[0], tuple(classifier.class_names))
        streaming = StreamSettings(batch_size=arguments.batch_size, limit=arguments.limit)
        fingerprint = model_fingerprint(classifier)
        made = provenance("explanations", model=Path(arguments.model).name, fingerprint=fingerprint)
        for part in arguments.parts:
            records = measure(classifier, dataset, arguments.out, part, streaming)
            Results.update(arguments.out, records, made)
    if arguments.page is not None:
        write_page(arguments.out, arguments.page, arguments.speed)


if __name__ == "__main__":
    main()
