"""Figures as inline SVG: colours are the page's variables, so they follow light and dark."""

from __future__ import annotations

import io
import re
from html import escape

from vitreous.report.charts import Figure
from vitreous.report.drawing import css_variables, drawn


def draw_svg(figure: Figure, place: int = 0) -> str:
    """Draw a figure as an `<svg>` element with a text alternative.

    Args:
        figure: What is shown.
        place: Tells the elements of one figure of a page from those of the others.
    """
    buffer = io.StringIO()
    with drawn(figure, title=False) as canvas:
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.savefig(buffer, format="svg", dpi=150, transparent=True, metadata=empty)
    return inline(buffer.getvalue(), figure.alt, f"f{place}-")


def inline(text: str, alt: str, prefix: str) -> str:
    """Make a part of a page of an SVG file: no size, no foreign names, colours as variables."""
    box = re.search(r'viewBox="([^"]+)"', text)
    body = text[text.index(">", text.index("<svg")) + 1 :]
    # A style for every element of the page, and a description of the file.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z_][\w-]*)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#(?=[A-Za-z_])', rf"\1#{prefix}", body)
    variables = css_variables()
    body = re.sub(r"#[0-9a-f]{6}\b", lambda m: _variable(m[0], variables), body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", body)
    body = re.sub(r" font-family: [^;\"]+;", "", body)
    body = re.sub(r'"[^"]*"', lambda m: re.sub(r"(\d\.\d\d)\d+", r"\1", m[0]), body)
    body = re.sub(r">\s+<", "><", body)
    size = box[1] if box else "0 0 1 1"
    label = escape(alt, quote=True)
    return f'<svg class="figure" viewBox="{size}" role="img" aria-label="{label}">{body.strip()}'


def _variable(color: str, variables) -> str:
    return f"var({variables[color]})" if color in variables else color


def _segment(x1: float, x2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="6" x2="{x2:.1f}" y2="6"/>'


def strip(
    value: float, interval: tuple[float, float] | None, color: int, low: float, high: float
) -> str:
    """Draw one value with its interval as a thin horizontal mark, for the headline."""
    width, span = 240, (high - low) or 1

    def place(v: float) -> float:
        return 5 + (width - 10) * min(max((v - low) / span, 0.0), 1.0)

    parts = [
        f'<svg class="strip" viewBox="0 0 {width} 12" aria-hidden="true">',
        _segment(4, width - 4, "grid"),
    ]
    if interval is not None:
        parts.append(_segment(place(interval[0]), place(interval[1]), f"wide s{color}"))
    parts.append(f'<circle class="f{color}" cx="{place(value):.1f}" cy="6" r="4.5"/></svg>')
    return "".join(parts)
