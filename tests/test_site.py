"""Every page of the site in a browser: no error, no request elsewhere, and it fits a phone."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib
import inspect
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Generator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chromium import open_page
from golden.pin_public import PACKAGES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI builds it."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:)?//')
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert [p.name for p in pages if fetched.search(p.read_text(encoding="utf-8"))] == []


def test_every_public_name_is_told_with_its_parameters(site: Path) -> None:
    reference = (site / "reference" / "python").glob("*.html")
    text = "".join(page.read_text(encoding="utf-8") for page in reference)
    values = public_values()
    assert len(values) > 90
    told = [[told_in(text, path, value) for path in paths] for value, paths in values]
    assert [paths for (_, paths), one in zip(values, told) if sum(one) != 1] == []


def public_values() -> list[tuple[object, list[str]]]:
    """Each public class and function with where it is defined and what it is imported by."""
    found: dict[int, tuple[object, list[str]]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                defined = f"{value.__module__}.{value.__qualname__}"
                found.setdefault(id(value), (value, [defined]))[1].append(f"{package}.{name}")
    return list(found.values())


def told_in(text: str, place: str, value: object) -> bool:
    """Whether a page of the reference has a name and, up to the next, all of its parameters."""
    _, found, rest = text.partition(f'<h2 id="{place}"')
    section = re.sub(r"<[^>]+>", "", rest.partition('<h2 id="')[0])
    names = inspect.signature(value).parameters if inspect.isfunction(value) else {}
    return bool(found) and all(re.search(rf"\b{parameter}\b", section) for parameter in names)


def test_a_name_is_titled_as_it_is_imported_and_returns_one_thing(site: Path) -> None:
    """Also where a module is called the same; a sentence of two lines is not two things."""
    text = "".join(p.read_text(encoding="utf-8") for p in (site / "reference/python").glob("*"))
    headings = re.findall(r'<h2 id="[^"]+" class="doc doc-heading">(.*?)</h2>', text, re.S)
    titles = [re.sub(r"<[^>]+>|&para;", "", heading).split()[0] for heading in headings]
    imported = {path for _, paths in public_values() for path in paths[1:]}
    assert len(titles) > 90 and [title for title in titles if title not in imported] == []
    returned = re.findall(r">(?:Returns|Yields):</span>(.*?)</table>", text, re.S)
    assert len(returned) > 20 and {table.count("<tr") for table in returned} == {2}


class Links(HTMLParser):
    """Where a page leads, and the places in it that one can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note `href`, `src`, `id` and `name`."""
        values = dict(attrs)
        self.targets += [v for k in ("href", "src") if (v := values.get(k))]
        self.places |= {v for k in ("id", "name") if (v := values.get(k))}


def read(page: Path) -> Links:
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


def dead_links(site: Path) -> list[str]:
    pages = {page.resolve(): read(page) for page in site.rglob("*.html")}
    dead = []
    for page, links in pages.items():
        for link in links.targets:
            path, _, place = urllib.parse.unquote(link).partition("#")
            if "://" in link or link.startswith(("data:", "mailto:")):
                continue
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            known = pages[target].places if target in pages else set()
            if not target.exists() or (place and target in pages and place not in known):
                dead.append(f"{page.name} → {link}")
    return dead


def test_no_link_of_the_site_is_dead(site: Path) -> None:
    dead = [link for link in dead_links(site) if not link.startswith("404.html")]
    assert dead == []


def test_a_dead_link_and_a_dead_place_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html">x</a><a href="#no">y</a><p id="yes"><a href="#yes">z</a>',
        encoding="utf-8",
    )
    assert dead_links(tmp_path) == ["a.html → b.html", "a.html → #no"]


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Generator[str]:
    """The address of a server of a folder on the loopback."""
    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# Whether a page fits, where need be after the theme has slid its menu aside.
FITS = """new Promise(done => {{ const start = Date.now(); const look = () =>
    document.documentElement.scrollWidth <= {width} ? done(true)
    : Date.now() - start > 3000 ? done(false) : setTimeout(look, 30); look(); }})"""


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.timeout(1200)
def test_every_page_is_drawn_without_an_error_on_a_phone_too(site: Path, tmp_path: Path) -> None:
    pages = sorted(p for p in site.rglob("*.html") if p.name != "404.html")
    assert len(pages) > 40
    wide = []
    with served(site) as address, open_page(tmp_path / "profile") as page:
        for file in pages:
            name = file.relative_to(site).as_posix()
            page.view(390, dark=True)
            page.open(address + name)
            assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)"), name
            for width, dark in ((390, True), (1240, False)):
                page.view(width, dark=dark)
                if not page.evaluate(FITS.format(width=width)):
                    wide.append((width, name))
    assert page.problems == [] and wide == []
    assert [r for r in page.requests if not r.startswith((address, "data:", "blob:"))] == []


@pytest.mark.browser
def test_the_landing_page_shows_the_card_and_follows_the_system(site: Path, tmp_path: Path) -> None:
    """Also after it was seen in the other colours: what is remembered is what a reader chose."""
    frame = "document.querySelector('iframe.card').contentDocument"
    with served(site) as address, open_page(tmp_path / "profile") as page:
        for dark, scheme in ((False, "default"), (True, "slate"), (False, "default")):
            page.view(1240, dark=dark)
            page.open(address + "index.html")
            page.wait(f"document.body.dataset.mdColorScheme === {scheme!r}")
            page.evaluate("document.querySelector('iframe.card').scrollIntoView()")
            page.wait(f"{frame} && {frame}.querySelectorAll('#records tbody tr').length > 10")
        assert page.problems == []


@pytest.mark.browser
def test_the_search_finds_a_heading_without_a_network(site: Path, tmp_path: Path) -> None:
    """What is typed is looked up in the index that lies beside the pages."""
    typed = """(() => { const field = document.querySelector('.md-search__input'); field.focus();
        field.value = 'catastrophic overfitting'; field.dispatchEvent(new Event('input')); })()"""
    with served(site) as address, open_page(tmp_path / "profile") as page:
        page.view(1240)
        page.open(address + "index.html")
        page.evaluate(typed)
        page.wait("document.querySelector('.md-search-result__list a[href*=adversarial]')")
        assert page.problems == []
        assert [r for r in page.requests if not r.startswith((address, "data:", "blob:"))] == []
