"""The contact sheet: images with their masks, worst first, as an image and as a page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vitreous.data.images import open_image
from vitreous.data.mask_files import read_mask
from vitreous.errors import ImageError, printable
from vitreous.io import atomic_path, write_text
from vitreous.masks.folder import EXTRAS
from vitreous.masks.manifest import ManifestRow, MaskFolder

TILE, LINE, COLUMNS = 160, 26, 8
LISTED = 1000
TINT = np.array([230, 30, 90], np.float32)


def write_sheet(folder: MaskFolder, *, limit: int = 200) -> tuple[Path, Path]:
    """Write `sheet.png` and `sheet.html` (self-contained) into the folder's `_quality`.

    Args:
        folder: The masks.
        limit: How many are shown, the worst ones.

    Returns:
        Paths of the image and of the page.

    Examples:
        >>> import tempfile
        >>> from vitreous.masks import MASK_METHODS, write_masks
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "cutouts").mkdir()
        >>> Image.new("RGBA", (64, 64), (255, 0, 0, 255)).save(folder / "cutouts" / "cup.png")
        >>> made = write_masks(MASK_METHODS["alpha"](), folder / "cutouts", folder / "masks")
        >>> [file.name for file in write_sheet(made)]
        ['sheet.png', 'sheet.html']
    """
    rows = sorted(folder.rows(), key=lambda row: (row.quality, row.name))
    shown = [row for row in rows if row.mask][:limit]
    tiles = [tile(folder, row) for row in shown]
    image, page = (folder.path / EXTRAS / name for name in ("sheet.png", "sheet.html"))
    with atomic_path(image) as temporary:
        _montage(shown, tiles).save(temporary)
    write_text(page, _page(rows, shown, tiles))
    return image, page


def tile(folder: MaskFolder, row: ManifestRow) -> Image.Image:
    """An image with its foreground tinted and outlined, within 160×160 pixels."""
    mask = read_mask(folder.file(row))[0].numpy() > 0
    try:
        image = open_image(row.image) if row.image else None
    except ImageError:
        image = None
    if image is None or image.size != mask.shape[::-1]:
        image = Image.fromarray(np.full((*mask.shape, 3), 128, np.uint8))
    image.thumbnail((TILE, TILE))
    small = np.asarray(Image.fromarray(mask).resize(image.size)) > 0
    pixels = np.asarray(image, np.float32)
    pixels = np.where(small[..., None], 0.6 * pixels + 0.4 * TINT, 0.75 * pixels)
    edge = small & ~_eroded(small)
    pixels[edge] = TINT
    return Image.fromarray(pixels.round().astype(np.uint8))


def _eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1, constant_values=True)
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return mask & np.logical_and.reduce(neighbours)


def _montage(rows: Sequence[ManifestRow], tiles: Sequence[Image.Image]) -> Image.Image:
    columns = min(COLUMNS, max(len(tiles), 1))
    height = TILE + LINE
    lines = max(-(-len(tiles) // columns), 1)
    sheet = Image.new("RGB", (columns * (TILE + 6) + 6, lines * (height + 6) + 6), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (row, image) in enumerate(zip(rows, tiles)):
        x = 6 + index % columns * (TILE + 6)
        y = 6 + index // columns * (height + 6)
        sheet.paste(image, (x, y))
        name = printable(row.name.split("/")[-1])
        draw.text((x, y + TILE), name if len(name) <= 26 else f"…{name[-25:]}", fill="black")
        state = "kept" if row.kept else "dropped"
        draw.text((x, y + TILE + 12), f"{row.quality:.2f} {state}", fill="black")
    return sheet


STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem;color:#222;background:#fff}"
    "main{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0;width:160px}"
    "img{max-width:160px;display:block}figcaption{font-size:12px;overflow-wrap:anywhere}"
    ".dropped figcaption{color:#a00}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}"
    ".dropped figcaption{color:#f88}}"
)


def _page(
    rows: Sequence[ManifestRow], shown: Sequence[ManifestRow], tiles: Sequence[Image.Image]
) -> str:
    figures = "\n".join(_figure(row, image) for row, image in zip(shown, tiles))
    failed = [row for row in rows if not row.mask]
    listed = "".join(
        f"<li>{_shown(row.name)}: {_shown(row.dropped)}</li>" for row in failed[:LISTED]
    )
    if len(failed) > LISTED:
        listed += f"<li>and {len(failed) - LISTED} more, see the manifest</li>"
    kept = sum(row.kept for row in rows)
    summary = f"{kept} of {len(rows)} kept; worst first, {len(shown)} shown"
    missing = f"<h2>Without a mask</h2><ul>{listed}</ul>" if failed else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Masks</title>'
        f"<style>{STYLE}</style><h1>Masks</h1><p>{summary}</p><main>\n{figures}\n</main>{missing}"
        "</html>\n"
    )


def _figure(row: ManifestRow, image: Image.Image) -> str:
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
    facts = f"quality {row.quality:.2f}, area {row.area:.0%}"
    if row.agreement is not None:
        facts += f", agreement {row.agreement:.2f}"
    text = "; ".join(part for part in (facts, row.dropped, row.note) if part)
    name = _shown(row.name)
    return (
        f'<figure class="{"kept" if row.kept else "dropped"}">'
        f'<img alt="{name}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><b>{name}</b><br>{_shown(text)}</figcaption></figure>"
    )


def _shown(text: str) -> str:
    """Text as a page may show it, whatever file names are in it."""
    return html.escape(printable(text))
