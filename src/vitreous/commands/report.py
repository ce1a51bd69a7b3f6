"""Write the card of one model or of several: an HTML page, a Markdown model card, or PNG figures.

The first model is the one that the others are compared with. Everything shown is read from
results.json and the run folders.

Example:
    vitreous report runs/before runs/after --out card.html
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitreous.errors import VitreousError
from vitreous.folders import check_file, claim_folder

# What stands at the head of each, by which an old one is known.
CARD = b"""content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src"""
MODEL_CARD = b"tags:\n- vitreous\n"


@dataclasses.dataclass(kw_only=True)
class Command:
    """Settings of `vitreous report`."""

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders or results.json files, one to six; the first is compared with."""
    out: Path | None = None
    """File to write (card.html or card.md), or folder for PNG figures (figures)."""
    format: Literal["html", "markdown", "png"] = "html"
    """html: one self-contained page; markdown: a Hugging Face model card of the last model with
    its figures beside it; png: every figure as a file."""
    title: str = ""
    """Heading; the models' names by default."""
    note: str = ""
    """A paragraph under the heading."""
    license: str = ""
    """Licence of the weights for the metadata of a Markdown card, for example apache-2.0."""
    overwrite: bool = False
    """Replace what is there although vitreous did not write it."""

    def run(self) -> None:
        """Write the card and say where it is."""
        if not self.models:
            raise VitreousError("give run folders or results.json files, one to six of them")
        if self.format == "html":
            from vitreous.report import write_card

            out = self.out or Path("card.html")
            check_file(out, CARD, "a card", overwrite=self.overwrite)
            print(f"card: {write_card(self.models, out, title=self.title, note=self.note)}")
        elif self.format == "markdown":
            self._markdown(self.out or Path("card.md"))
        else:
            self._figures(self.out or Path("figures"))

    def _markdown(self, out: Path) -> None:
        from vitreous.report.markdown import write_markdown

        check_file(out, MODEL_CARD, "a model card", overwrite=self.overwrite)
        path = write_markdown(
            self.models, out, title=self.title, note=self.note, license=self.license
        )
        print(f"model card: {path}")

    def _figures(self, out: Path) -> None:
        from vitreous.report.png import write_figures
        from vitreous.report.sources import read_sources, readable_sources

        sources = read_sources(self.models)
        claim_folder(out, "figures", overwrite=self.overwrite)
        with readable_sources(sources):
            written = write_figures(sources, out)
        if not written:
            raise VitreousError("these results have no figures: no curves, samples or test sets")
        print(f"{len(written)} figures: {out}")
