"""A hook of MkDocs: where a line may end, and where not: short code and intervals stay whole."""

from __future__ import annotations

import re
from typing import Any

SHORT = re.compile(r"(?<!>)<code>([^<]{1,40})</code>")
HEADING = re.compile(r"<h2 id=.*?</h2>", re.S)
JOINT = re.compile(r"(?<=[a-z0-9])([./_]+)(?=[^<>]*<)")
INTERVAL = re.compile(r"([(\[][\d.,+−–± -]+[)\]])(?=[^<>]*</td>)")


def on_page_content(html: str, **_: Any) -> str:
    """Mark what should stay on one line; `site.css` keeps it there."""
    blocks = re.split(r"(<pre.*?</pre>)", html, flags=re.S)
    return "".join(b if b.startswith("<pre") else whole(b) for b in blocks)


def whole(html: str) -> str:
    """Mark code that a browser would part after a hyphen, intervals in cells, joints of names."""
    html = SHORT.sub(lambda m: f'<code class="whole">{m[1]}</code>' if "-" in m[1] else m[0], html)
    html = HEADING.sub(lambda m: JOINT.sub(r"\1<wbr>", m[0]), html)
    return INTERVAL.sub(r'<span class="whole">\1</span>', html)
