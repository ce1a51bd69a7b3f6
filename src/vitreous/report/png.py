"""Figures as PNG files, for slides and for model cards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitreous.data.images import open_image
from vitreous.errors import ImageError
from vitreous.io import atomic_path
from vitreous.report import figures, tables
from vitreous.report.charts import Figure
from vitreous.report.drawing import drawn
from vitreous.report.images import ROLES
from vitreous.report.sources import Sample, Source

SIDE, GAP = 168, 6


def write_figures(
    sources: Sequence[Source], folder: str | os.PathLike[str]
) -> list[tuple[str, Path]]:
    """Write every figure of a card as a PNG, and the relevance pairs as one image a model.

    Returns:
        Text alternative and path of each.
    """
    root = Path(folder)
    every = [*figures.measured(sources), *figures.matrices(sources), *figures.training(sources)]
    written = [(f.alt, draw_png(f, root / f"{f.key}.png")) for f in every]
    for place, source in enumerate(sources):
        best, worst = tables.extremes(source.samples)
        for name, samples in (("best", best), ("worst", worst)):
            if samples:
                alt = f"{source.name}: relevance before and after, {name} changes"
                path = root / f"relevance_{place}_{name}.png"
                written.append((alt, montage(samples, path)))
    return written


def draw_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Draw one figure into a PNG of 1440 pixels width."""
    with drawn(figure, title=True) as canvas, atomic_path(path) as temporary:
        canvas.savefig(temporary, format="png", dpi=300)
    return Path(path)


def montage(samples: Sequence[Sample], path: str | os.PathLike[str]) -> Path:
    """Put samples under each other, each a row of its images."""
    width = len(ROLES) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, len(samples) * (SIDE + GAP) - GAP), "white")
    for row, sample in enumerate(samples):
        for column, role in enumerate(ROLES):
            try:
                image = open_image(sample.files[role])
            except (ImageError, KeyError):
                continue
            small = max(image.size) <= SIDE
            how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            place = (column * (SIDE + GAP), row * (SIDE + GAP))
            sheet.paste(image.resize((SIDE, SIDE), how), place)
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return Path(path)
