"""The page as a process: whom it answers, what its log says, and what it leaves at its end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from faults.bench import make_workplace


def post(url: str, body: bytes, kind: str = "application/json", **headers: str) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": kind, **headers})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=60
        ) as got:
            return got.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_hosts_log_and_uploads_of_a_served_page(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs the extra 'app'")
    place = make_workplace(tmp_path / "place")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "vitreous.cli", "app", "model", "--port", "7950"]
    command += ["--allowed-hosts", "lab.example"]
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            assert status(url, Host="lab.example") == 200
            assert status(url, Host="other.example") == 403
            assert status(url, Host="lab.example", Origin="https://other.example") == 403
            picture = io.BytesIO()
            Image.new("RGB", (40, 40), (200, 10, 10)).save(picture, "PNG")
            head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
            body = head + picture.getvalue() + b"\r\n--x--\r\n"
            kept = json.loads(
                post(f"{url}gradio_api/upload", body, "multipart/form-data; boundary=x")
            )[0]
            assert Path(kept).is_file() and Path(kept).is_relative_to(tmp_path / "temporary")
            for data in ([], [1, 2, 3], [{"path": "/etc/hostname"}] * 8, ["x"] * 20):
                call = f"{url}gradio_api/call/explain"
                event = json.loads(post(call, json.dumps({"data": data}).encode()))["event_id"]
                with urllib.request.urlopen(f"{call}/{event}", timeout=120) as stream:
                    stream.read()
        finally:
            process.terminate()
            process.wait(timeout=60)
    log.seek(0)
    said = log.read()
    log.close()
    assert "Traceback" not in said and "a call failed: " in said
    assert process.returncode == 0 and not list((tmp_path / "temporary").glob("vitreous-app-*"))
