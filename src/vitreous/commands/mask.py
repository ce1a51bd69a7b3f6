"""Make foreground masks, from images or from other formats.

Writes a PNG of 0 and 255 for each image (`OUT/a/b.png` for `IMAGES/a/b.jpg`), a manifest with what
was dropped and why, and a contact sheet, worst first. Killed and run again, it goes on where it
was, and several processes share the work (`torchrun`). Train with it: `vitreous train RECIPE
--data.name folders --data.images IMAGES --data.masks OUT`, or with the kept masks alone,
`--data.name folders --data.images OUT/kept.csv`.

Each method has settings of its own, which are options too: `vitreous mask --method NAME --help`
shows them. Those of a second method (--agree-with NAME) are written --agree.SETTING.

Example:
    vitreous mask photos/ --out masks/ --method tokencut --tau 0.2
    vitreous mask photos/ --out masks/ --method onnx --model u2netp.onnx
    vitreous mask photos/ --out masks/ --method coco --annotations instances.json
    vitreous mask photos/ --out masks/ --agree-with onnx --agree.model u2netp.onnx
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from vitreous.commands.options import BatchOption, BatchSize, RestartOption, quick_imports
from vitreous.commands.parsing import annotate, option_value
from vitreous.errors import VitreousError, nearest
from vitreous.ranges import SHARE, at_least

if TYPE_CHECKING:
    from vitreous.masks import Filters, MaskFolder, MaskMethod

Method = Literal[
    "alpha",
    "boxes",
    "coco",
    "imagenet_s",
    "numpy",
    "onnx",
    "palette",
    "png",
    "relevance",
    "rembg",
    "sam",
    "tokencut",
    "yolo",
]
METHODS: tuple[str, ...] = get_args(Method)


@dataclasses.dataclass(kw_only=True)
class Command(BatchOption, RestartOption):
    """Make foreground masks."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGES]")] = ()
    """Folder of images, or one image. Formats that state sizes need none."""

    images: Path | None = None
    """The same, written as an option."""

    out: Path = Path("masks")
    """Folder to write to."""

    method: Method = "tokencut"
    """Where masks come from."""

    agree_with: Method | None = None
    """A second method to compare with; its settings are written --agree.SETTING VALUE."""

    minimum_pixels: Annotated[float, at_least(0)] = 520.0
    """Drop masks with less foreground at 224×224 pixels (520: RobustViT's published code)."""

    maximum_area: Annotated[float, SHARE] = 1.0
    """Drop masks that cover more than this share of the image."""

    maximum_border: Annotated[float, SHARE] = 1.0
    """Drop masks that cover more than this share of the outermost pixels."""

    maximum_components: Annotated[int, at_least(1)] | None = None
    """Drop masks of more separate parts."""

    minimum_agreement: Annotated[float, SHARE] = 0.0
    """Drop masks whose overlap (IoU) with the second method's is smaller."""

    batch_size: BatchSize = 8

    sheet: Annotated[int, at_least(0)] = 200
    """How many images the contact sheet shows; 0 writes none."""

    overwrite: bool = False
    """Write to the folder although it holds what vitreous did not make; its masks stay."""

    def run(self) -> None:
        """Make the masks, and say where they are."""
        with quick_imports():
            from vitreous.masks import write_masks
            from vitreous.processes import current_processes

        methods: dict[str, MaskMethod] = vars(self)  # the fields that command_type adds
        processes = current_processes()
        folder = write_masks(
            methods["settings"],
            self._folder_of_images(),
            self.out,
            filters=self._filters(),
            second=methods.get("agree"),
            batch_size=self.batch_size,
            restart=self.restart,
            overwrite=self.overwrite,
            processes=processes,
        )
        if processes.main:
            self._report(folder)

    def _folder_of_images(self) -> Path | None:
        given = [*self.paths, *([] if self.images is None else [self.images])]
        if len(given) > 1:
            raise VitreousError(
                f"expected one folder of pictures, found {', '.join(map(str, given))}"
            )
        return given[0] if given else None

    def _filters(self) -> Filters:
        from vitreous.masks import Filters

        return Filters(
            self.minimum_pixels,
            self.maximum_area,
            self.maximum_border,
            self.maximum_components,
            self.minimum_agreement,
        )

    def _report(self, folder: MaskFolder) -> None:
        from vitreous.masks import write_sheet

        rows = folder.rows()
        kept = [row for row in rows if row.kept]
        print(f"{len(kept)} of {len(rows)} masks kept in {folder.path}")
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


def command_type(arguments: list[str]) -> type[Command]:
    """The command with the settings of the methods that the arguments name.

    Raises:
        VitreousError: For an unknown method, or settings of a second one that is not named.
    """
    method = option_value(arguments, "--method")
    second = option_value(arguments, "--agree-with")
    for name in (method, second):
        if name is not None and name not in METHODS:
            raise VitreousError(f"unknown mask method '{name}'; {nearest(name, METHODS)}")
    if second is None and any(argument.startswith("--agree.") for argument in arguments):
        raise VitreousError("--agree.… are settings of a second method; name it: --agree-with")
    if method is None and {"-h", "--help"} & {*arguments}:
        return Command
    return _with_settings(method or Command.method, second)


def _with_settings(method: str, second: str | None) -> type[Command]:
    """The command with the settings of each method as fields."""
    from vitreous.masks import MASK_METHODS

    settings = annotate(MASK_METHODS[method], tyro.conf.arg(name=""))
    fields: list[tuple[str, object]] = [("settings", settings)]
    if second is not None:
        fields.append(("agree", MASK_METHODS[second]))
    made = dataclasses.make_dataclass("Command", fields, bases=(Command,), kw_only=True)
    assert issubclass(made, Command)
    return made


def _kind(reason: str) -> str:
    """A reason without its numbers and names, to count by."""
    for known in ("no foreground", "foreground pixels", "of the picture", "of the border", "parts"):
        if known in reason and "/" not in reason:
            return {"foreground pixels": "too small"}.get(known, f"… {known}".replace("… no", "no"))
    return "too little agreement" if "agrees with" in reason else reason
