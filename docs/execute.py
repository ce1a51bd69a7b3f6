"""Run the tutorials and keep what came: `python docs/execute.py [NAME …]`, a minute each."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent / "tutorials"


def execute(file: Path) -> nbformat.NotebookNode:
    """Run a notebook from its first cell to its last; an error in a cell is raised."""
    book = nbformat.read(file, as_version=4)
    NotebookClient(book, timeout=1200, kernel_name="python3").execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times
        if "outputs" in cell:
            kept = (o for o in cell.outputs if o.get("name") != "stderr")
            cell.outputs = [_plain(output) for output in kept]
    book.metadata["language_info"] = {"name": "python"}
    return book


def _plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("image/jpeg", None)
        data["text/plain"] = "picture"
    return output


if __name__ == "__main__":
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if len(sys.argv) == 1 or path.stem in sys.argv[1:]:
            nbformat.write(execute(path), path)
