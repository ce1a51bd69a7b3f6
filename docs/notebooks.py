"""Tutorials are notebooks: a hook of MkDocs that makes a page of each, with its outputs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TUTORIALS = Path(__file__).parent / "tutorials"
SOURCE = "[This page is a notebook]({name}.ipynb): `docs/tutorials/{name}.ipynb`, which CI runs."


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and its pictures; the notebook itself can be downloaded."""
    for notebook in sorted(TUTORIALS.glob("*.ipynb")):
        text, pictures = page(json.loads(notebook.read_text(encoding="utf-8")), notebook.stem)
        files.append(File.generated(config, f"tutorials/{notebook.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def page(notebook: Mapping[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name."""
    parts, pictures = [], {}
    for place, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for text, picture in outputs(cell):
            if picture:
                file = f"{name}_{place}.png"
                pictures[file] = picture
                parts.append(f"![What the cell above draws]({file})")
            else:
                parts.append(f"```text\n{text.rstrip()}\n```")
    parts.append(SOURCE.format(name=name))
    return "\n\n".join(parts) + "\n", pictures


def outputs(cell: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Pictures of a cell, and the text that it printed before, between and after them."""
    told = ""
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            if told:
                yield told, b""
            told = ""
            yield "", base64.b64decode("".join(data["image/png"]))
        else:
            told += "".join(output.get("text", data.get("text/plain", "")))
    if told:
        yield told, b""
