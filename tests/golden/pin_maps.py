"""Pin every map and list of published facts, entry by entry, from sources of others.

    PYTHONPATH=tests python -m golden.pin_maps FOLDER

Writes `maps.json`: for each map a source and, for each entry, the first digits of the SHA-256 of
its canonical form. Nothing is read from the package. FOLDER holds, under their own names:

- ObjectNet's `folder_to_objectnet_label.json`, `objectnet_to_imagenet_1k.json`,
  `pytorch_to_imagenet_2012_id.json`, `imagenet_to_label_2012_v2` (as wise-ft b7a4b34 has them);
- `imagenet_pytorch_id_to_objectnet_id.json`, a second file of ObjectNet's authors (checked);
- SI-Score's `label_to_imagenet.json`; model-vs-human's `human_categories.py`;
- `robustness_readme.md`: hendrycks/robustness's README with the table "AlexNet ImageNet-C Error";
- `imagenet_testbed_robustness_top1s.csv` of imagenet-testbed.

The lists of ImageNet-1k, -A and -R come from timm's package (ImageNetInfo and its `_info` files).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
import sys
from importlib import resources
from pathlib import Path

FOLDER = Path(__file__).parent
GROUPS = {  # Hendrycks and Dietterich 2019, section 4.1, and the four of their validation set
    "noise": ["gaussian_noise", "shot_noise", "impulse_noise"],
    "blur": ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"],
    "weather": ["snow", "frost", "fog", "brightness"],
    "digital": ["contrast", "elastic_transform", "pixelate", "jpeg_compression"],
    "extra": ["speckle_noise", "gaussian_blur", "spatter", "saturate"],
}
SHIFTS = {  # Taori et al. 2020: each set's accuracy, and that at home on the classes of the set
    "imagenet-v2-matched-frequency": ["val", "imagenetv2-matched-frequency-format-val"],
    "imagenet-v2-threshold-0.7": ["val", "imagenetv2-threshold-0.7-format-val"],
    "imagenet-v2-top-images": ["val", "imagenetv2-top-images-format-val"],
    "imagenet-sketch": ["val", "imagenet-sketch"],
    "imagenet-a": ["val-on-imagenet-a-classes", "imagenet-a"],
    "imagenet-r": ["val-on-imagenet-r-classes", "imagenet-r"],
    "objectnet": ["val-on-objectnet-classes", "objectnet-1.0-beta"],
}


def digest(entry: str, value: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of an entry's name and value."""
    canonical = json.dumps([entry, value], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def objectnet(folder: Path) -> dict[str, object]:
    """Folder → indices in the order in which ObjectNet names them, by its own four files."""
    labels = json.loads((folder / "folder_to_objectnet_label.json").read_text())
    classes = json.loads((folder / "objectnet_to_imagenet_1k.json").read_text())
    lines = (folder / "imagenet_to_label_2012_v2").read_text().splitlines()
    order = json.loads((folder / "pytorch_to_imagenet_2012_id.json").read_text())
    index = {lines[line]: int(number) for number, line in order.items()}
    table = {
        name: [index[part] for part in classes[label].split("; ")]
        for name, label in labels.items()
        if label in classes
    }
    groups: dict[int, set[int]] = {}
    second = json.loads((folder / "imagenet_pytorch_id_to_objectnet_id.json").read_text())
    for number, group in second.items():
        groups.setdefault(group, set()).add(int(number))
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, table.values()))
    return {"folders": len(labels), **table}


def si_score(folder: Path) -> dict[str, object]:
    """Label text → indices."""
    published = json.loads((folder / "label_to_imagenet.json").read_text())
    return {k: [v] for k, v in published["label_str_to_imagenet_classes"].items()}


def cue_conflict(folder: Path) -> dict[str, object]:
    """Category → indices, from the lists `CATEGORY_indices` of its source."""
    found: dict[str, object] = {}
    for node in ast.walk(ast.parse((folder / "human_categories.py").read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.endswith("_indices"):
                found[name.removesuffix("_indices")] = ast.literal_eval(node.value)
    return found


def imagenet_c(folder: Path) -> dict[str, object]:
    """Corruption → its group and AlexNet's mean error."""
    table = (folder / "robustness_readme.md").read_text().split("AlexNet ImageNet-C Error")[1]
    rows = re.findall(r"^\| ([A-Z][\w ]+?) +\| (0\.\d+)", table, re.MULTILINE)
    spelled = {"elastic": "elastic_transform"}
    errors = {name.lower().replace(" ", "_"): float(value) for name, value in rows}
    errors = {spelled.get(name, name): value for name, value in errors.items()}
    return {n: [group, errors[n]] for group, names in GROUPS.items() for n in names}


def timm_list(name: str) -> list[str]:
    """WordNet ids of one of timm's lists, in its order."""
    return (resources.files("timm.data") / "_info" / name).read_text().split()


def testbed(folder: Path) -> dict[str, object]:
    """Model of standard training → accuracies over all columns, and shift → its two columns."""
    with (folder / "imagenet_testbed_robustness_top1s.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = sorted({column for pair in SHIFTS.values() for column in pair})
    accuracies = {
        row["model"]: {c: round(float(row[c]) / 100, 5) if row[c] else None for c in columns}
        for row in rows
    }
    return {f"shift {name}": pair for name, pair in SHIFTS.items()} | accuracies


def main(folder: Path) -> None:
    """Write `maps.json` beside this script."""
    maps = {
        "objectnet": ("ObjectNet's mappings, in mlfoundations/wise-ft b7a4b34", objectnet(folder)),
        "si_score": ("google-research/si-score, label_to_imagenet.json", si_score(folder)),
        "cue_conflict": ("bethgelab/model-vs-human, human_categories.py", cue_conflict(folder)),
        "imagenet_c": ("hendrycks/robustness, README, AlexNet's errors", imagenet_c(folder)),
        "testbed": ("imagenet-testbed, imagenet_testbed_robustness_top1s.csv", testbed(folder)),
        **{
            name: (f"timm's {name}_synsets.txt", {"wnids": timm_list(f"{name}_synsets.txt")})
            for name in ("imagenet", "imagenet_a", "imagenet_r")
        },
    }
    pins = {
        name: {"source": source, "entries": {k: digest(k, v) for k, v in entries.items()}}
        for name, (source, entries) in maps.items()
    }
    (FOLDER / "maps.json").write_text(json.dumps(pins, indent=1) + "\n")
    print({name: len(pin["entries"]) for name, pin in pins.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
