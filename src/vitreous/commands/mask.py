"""Make foreground masks, from pictures or from other formats.

Usage: vitreous mask IMAGES [OPTIONS] [SETTINGS]

Writes a PNG of 0 and 255 for each picture (`OUT/a/b.png` for `IMAGES/a/b.jpg`), a manifest with
what was dropped and why, and a contact sheet, worst first. Killed and run again, it goes on where
it was. Train with it: `vitreous train RECIPE --data.name folders --data.images IMAGES
--data.masks OUT`, or with the kept masks alone, `--data.name folders --data.images OUT/kept.csv`.

Example:
    vitreous mask photos/ --out masks/ --method tokencut
    vitreous mask photos/ --out masks/ --method onnx --model u2netp.onnx
    vitreous mask photos/ --out masks/ --method coco --annotations instances.json
    vitreous mask photos/ --out masks/ --agree-with onnx --agree.model u2netp.onnx

What follows the options below are settings of the method, written as --name value:
"""

from __future__ import annotations

import dataclasses
import time
import typing
from collections import Counter
from pathlib import Path
from typing import Any

from vitreous import config
from vitreous.errors import VitreousError
from vitreous.masks import MASK_METHODS, Filters, MaskFolder, MaskMethod, write_masks, write_sheet

TAKES_OVERRIDES = True


def describe_settings() -> str:
    """One line for each method and each of its settings with the default."""
    lines = []
    for name in MASK_METHODS:
        kind: Any = MASK_METHODS[name]
        hints = typing.get_type_hints(kind)
        options = []
        for field in dataclasses.fields(kind):
            option = f"--{field.name.replace('_', '-')}"
            if field.default is dataclasses.MISSING:
                shown = "PATH" if hints[field.name] is Path else "VALUE"
                options.append(f"{option} {shown} (needed)")
            elif field.default is None:
                options.append(f"{option} VALUE")
            else:
                options.append(f"{option} {_show(field.default)}")
        lines.append(f"    {name}: {', '.join(options) or 'none'}")
    return "\n".join(lines)


def _show(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


__doc__ = f"{__doc__}{describe_settings()}\n"


@dataclasses.dataclass(frozen=True)
class Command:
    """Make foreground masks."""

    images: Path | None = None
    """Folder of pictures, or one picture; `--images` can be left out before it. Formats that state
    sizes need none."""

    out: Path = Path("masks")
    """Folder to write to."""

    method: str = "tokencut"
    """Where masks come from; see the list above."""

    agree_with: str | None = None
    """A second method to compare with; its settings are written --agree.NAME VALUE."""

    minimum_pixels: float = 520.0
    """Drop masks with less foreground at 224×224 pixels (520: RobustViT's published code)."""

    maximum_area: float = 1.0
    """Drop masks that cover more than this share of the picture."""

    maximum_border: float = 1.0
    """Drop masks that cover more than this share of the outermost pixels."""

    maximum_components: int | None = None
    """Drop masks of more separate parts."""

    minimum_agreement: float = 0.0
    """Drop masks whose overlap (IoU) with the second method's is smaller."""

    batch_size: int = 8
    """Pictures in one pass."""

    sheet: int = 200
    """How many pictures the contact sheet shows; 0 writes none."""

    restart: bool = False
    """Delete what an earlier run wrote to the folder, and begin anew; masks that were changed by
    hand stay."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make; its masks stay."""

    def run(self, overrides: list[str]) -> int:
        """Make the masks, and say where they are."""
        images, overrides = take_images(overrides)
        if images is not None and self.images is not None:
            raise VitreousError(f"expected one folder of pictures, found {self.images}, {images}")
        settings = config.parse_overrides(overrides)
        second = settings.pop("agree", {})
        if second and self.agree_with is None:
            raise VitreousError("--agree.… are settings of a second method; name it: --agree-with")
        if self.batch_size < 1:
            raise VitreousError(f"expected a batch size of 1 or more, found {self.batch_size}")
        source = make_source(self.method, settings)
        other = make_source(self.agree_with, second) if self.agree_with else None
        start = time.perf_counter()
        folder = write_masks(
            source,
            images or self.images,
            self.out,
            filters=self._filters(),
            second=other,
            batch_size=self.batch_size,
            restart=self.restart,
            overwrite=self.overwrite,
        )
        self._report(folder, time.perf_counter() - start)
        return 0

    def _filters(self) -> Filters:
        return Filters(
            self.minimum_pixels,
            self.maximum_area,
            self.maximum_border,
            self.maximum_components,
            self.minimum_agreement,
        )

    def _report(self, folder: MaskFolder, seconds: float) -> None:
        rows = folder.rows()
        kept = [row for row in rows if row.kept]
        print(f"{len(kept)} of {len(rows)} masks kept in {folder.path} ({seconds:.1f} s)")
        for reason, count in Counter(_kind(row.dropped) for row in rows if not row.kept).items():
            print(f"  dropped {count}: {reason}")
        if odd := sum(bool(row.note) for row in rows):
            print(f"  {odd} with a note")
        print(f"manifest: {folder.manifest} (and manifest.csv)")
        if self.sheet and rows:
            image, page = write_sheet(folder, limit=self.sheet)
            print(f"contact sheet: {page} and {image}")
        if not kept:
            raise VitreousError(f"no mask was kept; {folder.manifest} says why")
        if (folder.path / "kept.csv").is_file():
            print(f"train: --data.name folders --data.images {folder.path / 'kept.csv'}")


def take_images(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Take the folder of pictures, the one word that follows no `--name`, out of the settings.

    Raises:
        VitreousError: If there are two such words.
    """
    words, rest, waiting = [], [], False
    for argument in arguments:
        if not argument.startswith("--") and not waiting:
            words.append(argument)
            continue
        waiting = argument.startswith("--") and "=" not in argument
        rest.append(argument)
    if len(words) > 1:
        raise VitreousError(f"expected one folder of pictures, found {', '.join(words)}")
    return (Path(words[0]) if words else None), rest


def make_source(method: str, settings: dict[str, Any]) -> MaskMethod:
    """Build a method from plain settings, strictly; a text is taken for a list of one."""
    kind: Any = MASK_METHODS[method]
    hints = typing.get_type_hints(kind)
    values = {
        name: [value] if "tuple" in str(hints.get(name)) and not isinstance(value, list) else value
        for name, value in settings.items()
    }
    return config.build(kind, values)


def _kind(reason: str) -> str:
    """A reason without its numbers and names, to count by."""
    for known in ("no foreground", "foreground pixels", "of the picture", "of the border", "parts"):
        if known in reason and "/" not in reason:
            return {"foreground pixels": "too small"}.get(known, f"… {known}".replace("… no", "no"))
    return "too little agreement" if "agrees with" in reason else reason
