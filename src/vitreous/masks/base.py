"""What a mask source is: one interface for readers of files and for methods."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from PIL import Image

from vitreous.data.images import image_errors, list_images
from vitreous.data.matching import Matches, match_names
from vitreous.errors import ImageError, VitreousError
from vitreous.registry import Registry


class MaskError(VitreousError):
    """No mask for one image; the run goes on and the manifest says why.

    Examples:
        >>> try:
        ...     raise MaskError("a.png has no alpha channel")
        ... except VitreousError as error:  # a user's mistake like any other
        ...     print(error)
        a.png has no alpha channel
    """


@dataclasses.dataclass(frozen=True)
class MaskItem:
    """One mask to make.

    Attributes:
        name: Relative path without suffix, `a/b` for the image `a/b.jpg`; the mask becomes
            `a/b.png`.
        image: The image, where there is one.
        source: The file that the mask is read from; the image where it is found in it.
        key: What an annotation file calls the image.
        problem: Why no mask can be made, in one line; empty where one can.

    Examples:
        >>> picture = Path("photos/cats/1.jpg")
        >>> MaskItem("cats/1", image=picture, source=picture).problem
        ''
    """

    name: str
    image: Path | None
    source: Path
    key: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Found:
    """One mask.

    Attributes:
        mask: (H, W) bool, of the image's size.
        note: What was odd about it, in one line; empty where nothing was.

    Examples:
        >>> found = Found(np.array([[True, False]]), note="cut at the left edge")
        >>> found.mask.sum().item(), found.note
        (1, 'cut at the left edge')
    """

    mask: np.ndarray
    note: str = ""


class MaskMethod(Protocol):
    """Frozen settings that find masks; heavy parts are loaded with the first batch.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGBA", (4, 2), (255, 0, 0, 255)).save(folder / "cup.png")
        >>> method = MASK_METHODS["alpha"](threshold=0.5)
        >>> items = method.items(folder)
        >>> items[0].name, method.find(items)[0].mask.mean().item()
        ('cup', 1.0)
    """

    def items(self, images: Path | None) -> list[MaskItem]:
        """List what there is to do, sorted by name.

        Args:
            images: Folder of the images; sources that hold their own need none.
        """
        ...

    def find(self, items: Sequence[MaskItem]) -> list[Found | MaskError]:
        """Find the masks of a batch, in order; an error takes the place of a mask."""
        ...


@runtime_checkable
class OfModel(Protocol):
    """A method whose masks follow from weights that its settings only name."""

    def weights(self) -> str:
        """Tell these weights from others; empty where there is no such file."""
        ...


# Pillow's own limit, above which it refuses an image as a decompression bomb.
NAMELESS = "nameless"  # what an annotation file names by no name
MOST_PIXELS = 2 * 89_478_485
MASK_METHODS: Registry[type[MaskMethod]] = Registry("mask method", "vitreous.masks.methods")


def find_masks(source: MaskMethod, items: Sequence[MaskItem]) -> list[Found | MaskError]:
    """Find the masks of a batch, in order; items with a problem do not reach the source."""
    found = iter(source.find([item for item in items if not item.problem]))
    return [MaskError(item.problem) if item.problem else next(found) for item in items]


def find_each(
    items: Sequence[MaskItem], find_one: Callable[[MaskItem], Found | MaskError]
) -> list[Found | MaskError]:
    """Find masks one by one; whatever is wrong with one is told in its place, the rest go on.

    Raises:
        VitreousError: What concerns all, for example a setting or a missing package.
    """
    results: list[Found | MaskError] = []
    for item in items:
        try:
            results.append(find_one(item))
        except MaskError as error:
            results.append(error)
        except ImageError as error:
            results.append(MaskError(str(error)))
        except VitreousError:
            raise
        except Exception as error:  # files of others hold anything
            what = item.key or item.name
            results.append(
                MaskError(f"{item.source}: {what} cannot be used: {type(error).__name__}: {error}")
            )
    return results


def without_image(
    names: dict[str, Path], items: Sequence[MaskItem], images: Path
) -> list[MaskItem]:
    """One item, with a problem, for each name that no image of the folder has.

    Args:
        names: What has no image, and the file that says so.
        items: The items of the images.
        images: The folder of the images.
    """
    known = {item.name for item in items}
    problem = f"there is no picture of it in {images}"
    return [
        MaskItem(name, None, source, problem=problem)
        for name, source in sorted(names.items())
        if name not in known
    ]


def image_items(images: Path | None, source: str) -> list[MaskItem]:
    """One item for each image of a folder (or for one image file).

    Raises:
        VitreousError: If there is no folder, or nothing in it.
    """
    if images is None:
        raise VitreousError(f"the method '{source}' needs a folder of pictures")
    if images.is_file():
        return [MaskItem(images.stem, images, images)]
    return distinct([MaskItem(stem(path, images), path, path) for path in list_images(images)])


def file_items(
    root: Path, images: Path | None, suffixes: Sequence[str], kind: str
) -> list[MaskItem]:
    """One item for each annotation file below `root`, with its image if there is a folder.

    With images, the items are the images: those without an annotation are kept, and fail one
    by one with a line that says what is missing. Annotations without an image come last, with a
    problem. Which file is of which image, `vitreous.data.matching` says.

    Raises:
        VitreousError: If the folder is missing or holds no such files.
    """
    if not root.is_dir():
        raise VitreousError(f"no folder at {root}; expected {kind} in it")
    found = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in suffixes and visible(p)]
    if not found:
        raise VitreousError(f"{root} holds no {kind} ({', '.join(suffixes)})")
    if images is None:
        return distinct([MaskItem(stem(path, root), None, path) for path in found])
    items = image_items(images, kind)
    matches = match_items(items, [path.relative_to(root).as_posix() for path in found])
    matched = [
        dataclasses.replace(
            item,
            source=root / f"{item.name}{suffixes[0]}" if place is None else found[place],
            problem=item.problem or (problem and f"{root}: {problem}"),
        )
        for item, place, problem in zip(items, matches.places, matches.problems)
    ]
    lost = {stem(found[place], root): found[place] for place in matches.lost}
    return matched + without_image(lost, matched, images)


def listed_items(images: Path, listing: Path, names: Sequence[str], kind: str) -> list[MaskItem]:
    """The images of a folder with what a file calls them, as `vitreous.data.matching` says.

    Names without an image come last, with a problem.

    Args:
        images: The folder, or one image.
        listing: The file.
        names: What it lists.
        kind: What messages call the method.

    Raises:
        VitreousError: If there is nothing in the folder.
    """
    items = image_items(images, kind)
    matches = match_items(items, names, suffixes=True)
    matched = [
        dataclasses.replace(
            item,
            source=listing,
            key="" if place is None else names[place],
            problem=item.problem or (problem and f"{listing}: {problem}"),
        )
        for item, place, problem in zip(items, matches.places, matches.problems)
    ]
    lost = {below(names[place]): listing for place in matches.lost}
    return matched + without_image(lost, matched, images)


def match_items(
    items: Sequence[MaskItem], names: Sequence[str], *, suffixes: bool = False
) -> Matches:
    """Match images with names, see `match_names`."""
    files = [(item.name, item.image or item.source) for item in items]
    return match_names(
        [f"{name}{file.suffix}" for name, file in files],
        names,
        paths=[file.absolute().as_posix() for _, file in files],
        suffixes=suffixes,
    )


def stem(path: Path, root: Path) -> str:
    """Relative path without the suffix, with forward slashes."""
    return path.relative_to(root).with_suffix("").as_posix()


def below(name: str) -> str:
    """Where the mask goes: below the folder of masks, whatever path an annotation file gives."""
    path = Path(name)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return Path(*parts).with_suffix("").as_posix() if parts else NAMELESS


def visible(path: Path) -> bool:
    """Whether neither the file nor a folder above it is hidden or a by-product of a run."""
    return not any(part.startswith((".", "_")) for part in path.parts[-3:])


def distinct(items: Sequence[MaskItem]) -> list[MaskItem]:
    """Let the first of two that would be written to one mask have it; the other gets a problem."""
    seen: dict[str, MaskItem] = {}
    result = []
    for item in items:
        other = seen.setdefault(item.name, item)
        if other is not item:
            problem = (
                f"{other.source} and {item.source} would share the mask {item.name}.png; rename one"
                if not item.key
                else f"{other.key} and {item.key} would share the mask {item.name}.png; rename one"
            )
            name = f"{item.name}{Path(item.key or item.source).suffix}"
            while name in seen:
                name += "_"
            item = seen[name] = dataclasses.replace(item, name=name, problem=problem)
        result.append(item)
    return result


def image_size(item: MaskItem) -> tuple[int, int] | None:
    """Width and height of the upright image, None where there is none.

    Its pixels are read too, so that a mask is only made for an image that training can read.

    Raises:
        MaskError: If it cannot be read.
    """
    if item.image is None:
        return None
    file = item.image
    with image_errors(file, MaskError), warnings.catch_warnings(), Image.open(file) as opened:
        warnings.simplefilter("ignore")
        width, height = opened.size
        turned = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        opened.draft("L", (1, 1))  # JPEG files are read at an eighth of their size
        opened.load()
    return (height, width) if turned else (width, height)


def require_size(pixels: int, what: object) -> None:
    """Refuse a mask that would need more memory than any image that can be opened.

    Raises:
        MaskError: With both numbers.
    """
    if not 0 <= pixels <= MOST_PIXELS:
        raise MaskError(f"{what} is for {pixels} pixels; at most {MOST_PIXELS} are allowed")


def check_size(mask: np.ndarray, item: MaskItem) -> None:
    """Refuse a mask that is not of its image's size.

    Raises:
        MaskError: With both sizes.
    """
    size = image_size(item)
    if size is not None and mask.shape != (size[1], size[0]):
        says = f"says {item.key} is" if item.key else "is"
        raise MaskError(
            f"{item.source} {says} {mask.shape[1]}×{mask.shape[0]} pixels, its picture "
            f"{item.image} is {size[0]}×{size[1]}; they must be of one size"
        )
