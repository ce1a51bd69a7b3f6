"""The documents hold: links lead somewhere, printed Python runs, what is listed is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vitreous
from golden.pin_public import PACKAGES
from test_imports import ORDER
from vitreous import recipes

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("tests/**/*.md")]
)
FAMILIES = {name.partition("/")[0] for name in recipes.list_recipes()}
GENERATED = {f"reference/{name}.md" for name in ("recipes", "commands", "parts", "python")}
GENERATED |= {f"reference/recipes/{family}.md" for family in FAMILIES}
GENERATED |= {f"reference/python/{package.rpartition('.')[2]}.md" for package in PACKAGES}
GENERATED |= {f"tutorials/{file.stem}.md" for file in (ROOT / "docs").glob("tutorials/*.ipynb")}
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(
    r"(?<![\w./-])((?:tests|docs|benchmarks|examples|src)/[\w./-]+\.(?:py|md|yaml|npz|png))"
)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Names of headings as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def dead_links(page: Path) -> list[str]:
    text = without_code(page.read_text(encoding="utf-8"))
    dead = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        generated = target.is_relative_to(ROOT / "docs") and (
            target.relative_to(ROOT / "docs").as_posix() in GENERATED
        )
        if "://" in link or generated:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_relative_link_is_dead(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# Head\n[x](b.md) [y](#head) [z](#tail)\n```\n[w](c.md)\n```\n")
    assert dead_links(page) == ["b.md", "#tail"]


def sources_of_text() -> list[Path]:
    recipe_files = sorted(recipes.recipe_folder().rglob("*.yaml"))
    return [*PAGES, *recipe_files, *sorted(Path(vitreous.__file__).parent.rglob("*.py"))]


def test_files_of_the_repository_that_are_named_exist() -> None:
    named = {
        (file.name, name)
        for file in sources_of_text()
        for name in FILE.findall(file.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).exists()] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"([\w/]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert listed == pages | GENERATED


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("name", ["README.md", "docs/guides/explain.md", "docs/guides/machines.md"])
def test_what_is_printed_as_python_runs(name: str) -> None:
    """As it is printed, but for the model: a smaller one, whose weights need not be fetched."""
    blocks = python_blocks(ROOT / name)
    assert blocks
    loading = re.compile(r'load_model\("vit_base[^)]*\)')
    small = 'load_model("vit_tiny_patch16_224", pretrained=False)'
    for block in blocks:
        exec(loading.sub(small, block), {})


def test_the_design_lists_the_rooms_in_the_order_that_is_tested() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = re.search(r"^```\n(errors, allocator\n.*?)^```", text, re.M | re.S)
    assert block is not None
    listed = [set(line.split(", ")) for line in block[1].splitlines()]
    assert listed == [set(line) for line in ORDER]


def test_the_readme_maps_every_room_and_no_other() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## Map of the code") :]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.M)
    named = {name.rstrip("/") for cell in cells for name in re.findall(r"`([\w./]+)`", cell)}
    root = Path(vitreous.__file__).parent
    packages = {p.parent.name for p in root.glob("*/__init__.py")}
    assert packages <= named
    assert [name for name in sorted(named) if not (root / name).exists()] == []
