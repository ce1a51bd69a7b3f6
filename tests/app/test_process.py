"""The page as a process: whom it answers, what its log says, and what it leaves at its end."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from faults.bench import make_workplace
from faults.visitors import WRONG, ask, served, status, upload


def test_hosts_log_and_uploads_of_a_served_page(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    place = make_workplace(tmp_path / "place")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    options = ("--port", "7950", "--allowed-hosts", "lab.example")
    with (tmp_path / "log").open("w") as log, served(place, log, *options, **environment) as page:
        process, url = page
        assert status(url, Host="lab.example") == 200
        assert status(url, Host="other.example") == 403
        assert status(url, Host="lab.example", Origin="https://other.example") == 403
        picture = io.BytesIO()
        Image.new("RGB", (40, 40), (200, 10, 10)).save(picture, "PNG")
        kept = Path(upload(url, "x.png", picture.getvalue()))
        assert kept.is_file() and kept.is_relative_to(tmp_path / "temporary")
        for values in WRONG:
            assert "event: error" in ask(url, values)
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said and "a call failed: " in said
    assert process.returncode == 0 and not list((tmp_path / "temporary").glob("vitreous-app-*"))
