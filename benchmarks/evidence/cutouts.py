"""Masks of small photographs by SAM from their boxes, sixty-four photographs a pass.

    python benchmarks/evidence/cutouts.py --data tiny_imagenet_50/ --encoder ENCODER --decoder \
        DECODER --out evidence/objects --classes n02085620 n01882714 …

Sixty-four photographs of 64 pixels are laid out as one of 128 × 128 each and segmented together,
since the encoder takes 1024 × 1024 whatever the photograph holds: it works 64 times less. Writes
photographs and masks as `train/images/CLASS/a.png`, `train/masks/CLASS/a.png`, the same for
`balanced` (other training photographs) and `test` (validation photographs). Boxes of another size
than is wanted are passed over; a mask that fills less than a tenth of its box is left out and
counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.masks.methods.sam import BOTTOM_RIGHT, TOP_LEFT, Sam

SIDE, TILE, ROW = 64, 128, 8
LEAST, MOST = 0.08, 0.9  # share of the photograph that the box takes
Named = tuple[str, tuple[int, int, int, int]]


def segment(sam: Sam, data: Path, named: list[Named]) -> list[np.ndarray]:
    """Masks (64, 64) bool of up to 64 photographs, from their boxes."""
    sheet, corners = Image.new("RGB", (TILE * ROW, TILE * ROW)), []
    for place, (name, box) in enumerate(named):
        left, top = TILE * (place % ROW), TILE * (place // ROW)
        photo = Image.open(data / name).convert("RGB")
        sheet.paste(photo.resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top))
        corners.append(np.array(box).reshape(2, 2) * (TILE / SIDE) + [left, top])
    labels = np.tile([TOP_LEFT, BOTTOM_RIGHT], (len(named), 1))
    union = sam.segment(sheet, np.array(corners), labels)
    masks = []
    for place, (_, (x0, y0, x1, y1)) in enumerate(named):
        top, left = TILE * (place // ROW), TILE * (place % ROW)
        tile = Image.fromarray(union[top : top + TILE, left : left + TILE])
        small = np.asarray(tile.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)) > 127
        inside = np.zeros_like(small)
        inside[y0:y1, x0:x1] = True
        masks.append(small & inside)
    return masks


def choose(boxes: dict[str, list[int]], wnid: str, train: int, balanced: int) -> dict[str, list]:
    """Photographs of a class for each use, with their boxes, ends exclusive."""
    by_split: dict[str, list[Named]] = {"train": [], "val": []}
    for name in sorted(boxes):
        left, top, right, bottom = boxes[name]
        share = (right + 1 - left) * (bottom + 1 - top) / SIDE**2
        if name.split("/")[1] == wnid and LEAST <= share <= MOST:
            box = (left, top, right + 1, bottom + 1)
            by_split[name.split("/")[0]].append((name, box))
    order = np.random.default_rng(int(wnid[1:])).permutation(len(by_split["train"]))
    shuffled = [by_split["train"][i] for i in order]
    return {
        "train": shuffled[:train],
        "balanced": shuffled[train : train + balanced],
        "test": by_split["val"][:28],
    }


def sam_of_sheets(encoder: Path, decoder: Path) -> Sam:
    """SAM as `segment` asks it: gaps are filled by the size of one photograph on the sheet."""
    return Sam(encoder, decoder, points=Path("none"), gap=Sam.gap / ROW**2)


def main() -> None:
    """Write photographs and masks, class by class; a class that is there is not made again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--balanced", type=int, default=12)
    arguments = parser.parse_args()
    boxes = json.loads((arguments.data / "boxes.json").read_text())
    sam = sam_of_sheets(arguments.encoder, arguments.decoder)
    for wnid in arguments.classes:
        left_out = 0
        if (done := arguments.out / f"{wnid}.done").is_file():
            continue
        chosen = choose(boxes, wnid, arguments.train, arguments.balanced)
        everything = [(use, *named) for use, several in chosen.items() for named in several]
        for start in range(0, len(everything), ROW**2):
            part = everything[start : start + ROW**2]
            found = segment(sam, arguments.data, [(name, box) for _, name, box in part])
            for (use, name, box), mask in zip(part, found):
                if mask.sum() < 0.1 * (box[2] - box[0]) * (box[3] - box[1]):
                    left_out += 1
                    continue
                file = f"{wnid}/{Path(name).stem}.png"
                images = arguments.out / use / "images" / file
                masks = arguments.out / use / "masks" / file
                for path in (images, masks):
                    path.parent.mkdir(parents=True, exist_ok=True)
                Image.open(arguments.data / name).convert("RGB").save(images)
                Image.fromarray((mask * 255).astype(np.uint8)).save(masks)
        counts = {use: len(named) for use, named in chosen.items()}
        done.write_text(f"{counts}, left out {left_out}\n")
        print(wnid, counts, f"left out {left_out}", flush=True)


if __name__ == "__main__":
    main()
