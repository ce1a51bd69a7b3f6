"""Ways of asking SAM for the objects in boxes, and of making a mask of its answer.

    python benchmarks/sam_ways.py --data DATA --encoder ENCODER --decoder DECODER

DATA holds `coco64_seg` unpacked. Prints for each way the mean union IoU on the photographs with
foreground, on the even and on the odd ones, and the median. Scores are kept in a file; run again,
it goes on with the next photographs, so `--limit` may grow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from masks_quality import polygon_boxes
from vitreous.data.images import open_image
from vitreous.io import read_json, write_json
from vitreous.masks import Found, intersection_over_union
from vitreous.masks.edges import enlarge, fill_gaps
from vitreous.masks.images import run_session
from vitreous.masks.methods.sam import BOTTOM_RIGHT, TOP_LEFT, Sam
from vitreous.masks.methods.yolo import Yolo

Answer = tuple[np.ndarray, np.ndarray]
THRESHOLDS = (-0.5, -1.0, -1.5, -2.0)


class Asking:
    """SAM, asked in several ways about one photograph.

    Args:
        sam: The networks.
        image: The photograph.
        boxes: (objects, 4) left, top, right, bottom in pixels, ends exclusive.
    """

    def __init__(self, sam: Sam, image, boxes: np.ndarray):
        self.sam, self.embeddings = sam, sam._embed(image)
        self.size = (image.height, image.width)
        width, height = image.size
        side = sam._side
        self.boxes = boxes.clip(0, [width, height, width, height])
        self.corners = self.boxes.reshape(-1, 2, 2) * (side / np.array([width, height]))
        self.kinds = np.tile([TOP_LEFT, BOTTOM_RIGHT], (len(boxes), 1))

    def box(self, hint: np.ndarray | None = None) -> Answer:
        """Masks (objects, 3, h, w) and predicted overlaps (objects, 3) for the boxes."""
        return self._decode(self.corners, self.kinds, hint)

    def box_and_point(self, hint: np.ndarray | None = None) -> Answer:
        """The same with a point in the middle of each box."""
        points = np.concatenate([self.corners.mean(1, keepdims=True), self.corners], 1)
        kinds = np.concatenate([np.ones((len(points), 1)), self.kinds], 1)
        return self._decode(points, kinds, hint)

    def _decode(self, points: np.ndarray, kinds: np.ndarray, hint: np.ndarray | None) -> Answer:
        masks, overlaps = [], []
        for start in range(0, len(points), 8):
            part = slice(start, start + 8)
            count = len(points[part])
            empty = np.zeros((count, 1, 256, 256), np.float32)
            asked = {
                **{k: v for k, v in self.embeddings.items() if k in self.sam._decoder_names},
                "point_coords": points[part].astype(np.float32),
                "point_labels": kinds[part].astype(np.float32),
                "mask_input": empty if hint is None else hint[part, None].astype(np.float32),
                "has_mask_input": np.full(1, hint is not None, np.float32),
            }
            answer = list(run_session(self.sam._decoder, self.sam.decoder, asked).values())
            masks.append(answer[0])
            overlaps.append(answer[1])
        return np.concatenate(masks), np.concatenate(overlaps)

    def fits(self, masks: np.ndarray) -> np.ndarray:
        """(objects, 3) overlap (IoU) of the extent of each mask with its box."""
        height, width = self.size
        scale = np.tile([masks.shape[3] / width, masks.shape[2] / height], 2)
        fits = np.zeros(masks.shape[:2])
        for (place, choice), _ in np.ndenumerate(fits):
            shown = masks[place, choice] > 0
            if shown.any():
                rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
                own = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                fits[place, choice] = box_overlap(own, self.boxes[place] * scale)
        return fits

    def union(self, logits: np.ndarray, threshold: float, *, cut: bool, cubic: bool = False):
        """(H, W) bool: the objects where their logits exceed a threshold."""
        mask = np.zeros(self.size, bool)
        for one, box in zip(logits, self.boxes):
            if cubic:
                large = cv2.resize(one, self.size[::-1], interpolation=cv2.INTER_CUBIC)
            else:
                large = enlarge(one, self.size)
            ends = np.array([np.floor(box[:2]), np.ceil(box[2:])]).astype(int).tolist()
            (left, top), (right, bottom) = ends
            whole = slice(None), slice(None)
            where = (slice(top, bottom), slice(left, right)) if cut else whole
            mask[where] |= large[where] > threshold
        return mask


def box_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two boxes (left, top, right, bottom)."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / float(
        np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]) - shared
    )


def best(masks: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(objects, h, w) the mask of the best score of each object."""
    return masks[np.arange(len(masks)), scores.argmax(1)]


def answers(asking: Asking) -> dict[str, np.ndarray]:
    """Way of asking or choosing → logits (objects, h, w)."""
    masks, overlaps = asking.box()
    stable = (masks > 1).sum((2, 3)) / np.maximum((masks > -1).sum((2, 3)), 1)
    fits, first = asking.fits(masks), best(masks, overlaps)
    second = best(*asking.box(first))
    pointed = best(*asking.box_and_point())
    return {
        "box": first,
        "by overlap × fit": best(masks, overlaps * fits),
        "by fit": best(masks, fits),
        "by stability": best(masks, stable),
        "by overlap × stability": best(masks, overlaps * stable),
        "mean of the three": masks.mean(1),
        "box, then its mask": second,
        "box, then its mask, twice": best(*asking.box(second)),
        "mean of first and second": (first + second) / 2,
        "box and point": pointed,
        "box and point, then its mask": best(*asking.box_and_point(pointed)),
    }


def ways(asking: Asking) -> Iterator[tuple[str, np.ndarray]]:
    """Way → mask."""
    made = answers(asking)
    for name, logits in made.items():
        for cut in (False, True):
            mask = asking.union(logits, 0, cut=cut)
            yield name + " | cut" * cut, mask
            yield name + " | cut" * cut + " | filled", fill_gaps(mask, Sam.gap)
    for threshold in THRESHOLDS:
        mask = asking.union(made["box"], threshold, cut=True)
        yield f"box | cut | filled | > {threshold}", fill_gaps(mask, Sam.gap)
    yield "box | cubic", asking.union(made["box"], 0, cut=False, cubic=True)


def show(table: dict[str, dict[str, float]]) -> None:
    """Print a row for each way."""
    rows = [row for row in table.values() if row]
    print("| way | mean IoU | even | odd | median |\n| --- | --- | --- | --- | --- |")
    for name in rows[0]:
        scores = np.array([row[name] for row in rows])
        figures: list[Callable[[np.ndarray], float]] = [np.mean, lambda s: s[::2].mean()]
        figures += [lambda s: s[1::2].mean(), np.median]
        cells = [f"{figure(scores):.4f}" for figure in figures]
        print(f"| {name.replace(' | ', ', ')} | {' | '.join(cells)} |")
    print(f"\n{len(rows)} photographs")


def main() -> None:
    """Score the photographs that have no scores yet, and show all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=64, help="photographs with foreground")
    parser.add_argument("--scores", type=Path, default=Path("sam_ways.json"))
    arguments = parser.parse_args()
    sam = Sam(arguments.encoder, arguments.decoder, points=Path("none"))
    data = arguments.data / "coco64_seg"
    truth = Yolo(data / "labels", minimum_area=0.01)
    table = read_json(arguments.scores) if arguments.scores.is_file() else {}
    for item in truth.items(data / "images"):
        if len(table) >= arguments.limit:
            break
        (found,) = truth.find([item])
        if item.name in table or not isinstance(found, Found) or not found.mask.any():
            continue
        assert item.image is not None
        boxes = np.array(polygon_boxes(truth, item))
        boxes[:, 2:] += 1
        asking = Asking(sam, open_image(item.image), boxes)
        scored = {n: intersection_over_union(mask, found.mask) for n, mask in ways(asking)}
        table[item.name] = scored
        write_json(arguments.scores, table)
    show(table)


if __name__ == "__main__":
    main()
