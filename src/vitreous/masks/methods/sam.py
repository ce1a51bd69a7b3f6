"""Masks from boxes or points by a promptable segmenter: SAM 2 as two ONNX files."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from vitreous.data.images import open_image
from vitreous.errors import VitreousError
from vitreous.fingerprint import named_content
from vitreous.masks.base import MASK_METHODS, Found, MaskError, MaskItem, find_each
from vitreous.masks.edges import enlarge, fill_gaps
from vitreous.masks.images import MEAN, STD, Session, load_session, run_session, squash
from vitreous.masks.prompts import BoxFile, PromptFile
from vitreous.ranges import SHARE

# Labels of SAM's points: the two corners of a box.
TOP_LEFT, BOTTOM_RIGHT = 2.0, 3.0
PROMPTS = {"point_coords", "point_labels", "mask_input", "has_mask_input"}
AT_ONCE = 16


@MASK_METHODS.register("sam")
@dataclasses.dataclass(frozen=True)
class Sam:
    """SAM 2 (Ravi et al. 2024): the objects inside of boxes, or at points.

    The image is squashed to the encoder's size and normalised by ImageNet's mean and standard
    deviation; each box is an object, all points of an image are one; of the masks that the
    decoder offers for an object, the one of the best predicted overlap is taken, and what of it
    lies outside the object's box is cut off. Foreground is the union of the objects, small gaps
    in it filled.

    Attributes:
        encoder: ONNX (or ORT) file: image (1, 3, S, S) → embeddings.
        decoder: ONNX file: embeddings by the encoder's names, `point_coords` (objects, points, 2)
            in pixels of the encoder, `point_labels`, `mask_input`, `has_mask_input` → logits of
            masks (objects, choices, h, w), predicted overlaps (objects, choices).
        boxes: Boxes as the method `boxes` reads them.
        points: A JSON file `{"a/b.jpg": [[x, y], [x, y, 0]]}`: pixels; 0 marks the background.
        names: Names of the objects that count, for XML and COCO; all where not given.
        cut: Cut each object's mask off where its box ends.
        gap: Fill connected parts of the background that cover less than this share of the image,
            as SAM 2's own `max_hole_area` does; 0 fills none.
        device: `auto`, `cpu`, or `cuda` where onnxruntime-gpu is installed.
    """

    encoder: Path
    decoder: Path
    boxes: Path | None = None
    points: Path | None = None
    names: tuple[str, ...] | None = None
    cut: bool = True
    gap: Annotated[float, SHARE] = 0.01
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.boxes is None) == (self.points is None):
            raise VitreousError("the method 'sam' needs either boxes or points, one of the two")

    def items(self, images: Path | None) -> list[MaskItem]:
        """One for each image."""
        if images is None:
            raise VitreousError("the method 'sam' needs a folder of pictures")
        return self._prompts.items(images, "sam")

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Segment a batch, one image after the other."""
        return find_each(items, self._one)

    def weights(self) -> str:
        """Names and contents of both files."""
        return " ".join(named_content(f) for f in (self.encoder, self.decoder) if f.is_file())

    def _one(self, item: MaskItem) -> Found:
        if item.image is None:
            raise MaskError(f"{item.source} has no picture")
        image = open_image(item.image)
        coordinates, labels = self._asked(item, image.size)
        return Found(self.segment(image, coordinates, labels))

    def _asked(self, item: MaskItem, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Points (objects, points, 2) in pixels of the image, and their labels."""
        if isinstance(self._prompts, BoxFile):
            stated, boxes = self._prompts.boxes(item)
            if stated is not None and stated != size:
                raise MaskError(
                    f"{item.source} is for a picture of {stated[0]}×{stated[1]} pixels, "
                    f"{item.image} is {size[0]}×{size[1]}"
                )
            corners = np.array(boxes, np.float64).reshape(-1, 2, 2)
            corners = np.clip(corners, 0, np.array(size))
            return corners, np.tile([TOP_LEFT, BOTTOM_RIGHT], (len(corners), 1))
        points = np.array(self._prompts.points(item), np.float64).reshape(1, -1, 3)
        return points[..., :2], points[..., 2]

    def segment(
        self, image: Image.Image, coordinates: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Segment what is asked for in one image.

        Args:
            image: RGB, of any size.
            coordinates: (objects, points, 2): x and y in pixels of the image.
            labels: (objects, points): 1 on the object, 0 beside it, 2 and 3 corners of its box.

        Returns:
            (H, W) bool, the union of the objects, gaps filled; empty where none is asked for.

        Raises:
            MaskError: If the network's answer is not finite.
        """
        mask = np.zeros((image.height, image.width), bool)
        side = self._side
        embeddings = self._embed(image) if len(coordinates) else {}
        scaled = coordinates * (side / np.array(image.size))
        for start in range(0, len(scaled), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            made = self._decode(embeddings, scaled[part], labels[part])
            for logits, points, kinds in zip(made, coordinates[part], labels[part]):
                rows, columns = self._extent(points, kinds, mask.shape)
                mask[rows, columns] |= enlarge(logits, mask.shape)[rows, columns] > 0
        return fill_gaps(mask, self.gap)

    def _extent(
        self, points: np.ndarray, kinds: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[slice, slice]:
        """Rows and columns where an object can be: its box's pixels; all where it has no box."""
        corners = [points[kinds == kind] for kind in (TOP_LEFT, BOTTOM_RIGHT)]
        if not self.cut or min(map(len, corners)) == 0:
            return slice(0, shape[0]), slice(0, shape[1])
        left, top = np.floor(np.maximum(corners[0][0], 0)).astype(int).tolist()
        right, bottom = np.ceil(np.maximum(corners[1][0], 0)).astype(int).tolist()
        return slice(top, bottom), slice(left, right)

    def _embed(self, image: Image.Image) -> dict[str, np.ndarray]:
        pixels = squash([image], (self._side, self._side)).numpy()
        session = self._encoder
        entry = session.get_inputs()[0].name
        normalised = ((pixels - MEAN) / STD).astype(np.float32)
        return run_session(session, self.encoder, {entry: normalised})

    def _decode(
        self, embeddings: dict[str, np.ndarray], coordinates: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Logits (objects, h, w) of each object's best mask."""
        count = len(coordinates)
        hints = [entry.shape for entry in self._decoder.get_inputs() if entry.name == "mask_input"]
        height, width = (n if isinstance(n, int) else self._side // 4 for n in hints[0][-2:])
        answer = run_session(
            self._decoder,
            self.decoder,
            {
                **{k: v for k, v in embeddings.items() if k in self._decoder_names},
                "point_coords": coordinates.astype(np.float32),
                "point_labels": labels.astype(np.float32),
                "mask_input": np.zeros((count, 1, height, width), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
            },
        )
        masks, overlaps = list(answer.values())[:2]
        if masks.ndim != 4 or overlaps.shape != masks.shape[:2] or len(masks) != count:
            raise VitreousError(
                f"{self.decoder} gives {masks.shape} and {overlaps.shape} for {count} objects, "
                "expected masks (objects, choices, h, w) and overlaps (objects, choices)"
            )
        if not (np.isfinite(masks).all() and np.isfinite(overlaps).all()):
            raise MaskError(f"{self.decoder} gives numbers that are not finite")
        return masks[np.arange(count), overlaps.argmax(1)]

    @property
    def _side(self) -> int:
        side = self._encoder.get_inputs()[0].shape[-1]
        return side if isinstance(side, int) else 1024

    @functools.cached_property
    def _prompts(self) -> PromptFile:
        if self.boxes is not None:
            return BoxFile(self.boxes, self.names)
        return PromptFile(self.points or Path())

    @functools.cached_property
    def _encoder(self) -> Session:
        session = load_session(self.encoder, self.device)
        entry = session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.shape[1] != 3:
            raise VitreousError(
                f"{self.encoder} takes {entry.shape}, expected pictures [1, 3, S, S]"
            )
        return session

    @functools.cached_property
    def _decoder(self) -> Session:
        session = load_session(self.decoder, self.device)
        offered = {output.name for output in self._encoder.get_outputs()}
        wanted = {entry.name for entry in session.get_inputs()}
        if not wanted >= PROMPTS or wanted - PROMPTS - offered:
            raise VitreousError(
                f"{self.decoder} takes {', '.join(sorted(wanted))}; expected "
                f"{', '.join(sorted(PROMPTS))} and what {self.encoder} gives "
                f"({', '.join(sorted(offered))})"
            )
        return session

    @functools.cached_property
    def _decoder_names(self) -> set[str]:
        return {entry.name for entry in self._decoder.get_inputs()}
