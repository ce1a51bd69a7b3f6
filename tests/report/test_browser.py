"""The card in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import check_card, open_page
from helpers import make_run
from vitreous.report import write_card

pytestmark = pytest.mark.browser


@pytest.fixture
def card(tmp_path: Path) -> Path:
    runs = [make_run(tmp_path / name, name, i * 20) for i, name in enumerate("abc")]
    return write_card(runs, tmp_path / "card.html", title="Three models")


@pytest.mark.parametrize(("width", "dark"), [(1240, False), (1240, True), (390, False)])
def test_the_card_is_drawn_without_errors_at_any_width(card, tmp_path, width, dark):
    with open_page(tmp_path / "profile") as page:
        check_card(page, card, width, dark, tmp_path / "shot.png")


def test_tables_sort_copy_and_the_theme_changes(card, tmp_path):
    with open_page(tmp_path / "profile") as page:
        page.view(1240)
        page.open(card.as_uri())
        values = (
            "[...document.querySelectorAll('#records tbody tr')].map(r => r.cells[3].dataset.value)"
        )
        before = page.evaluate(values)
        click = "document.querySelectorAll('#records th button')[3].click()"
        page.evaluate(click)
        down = [float(v) for v in page.evaluate(values) if v]
        assert down == sorted(down, reverse=True) and len(down) == len([v for v in before if v])
        page.evaluate(click)
        assert [float(v) for v in page.evaluate(values) if v] == down[::-1]
        page.evaluate(
            "window.copied = ''; Object.defineProperty(navigator, 'clipboard', {value: "
            "{writeText: async text => { window.copied = text; }}})"
        )
        page.evaluate("document.querySelector('button.copy').click()")
        page.wait("window.copied !== ''")
        lines = page.evaluate("window.copied").splitlines()
        assert len(lines) == len(before) + 1 and "\t91.3 % (89.4 – 92.9)\t" in "\n".join(lines)
        page.evaluate("document.getElementById('theme').click()")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.problems == []
