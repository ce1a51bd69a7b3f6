"""The wheel holds the package whole: what is not Python too."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST_WHEEL = 4 << 20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the project's own build backend without a network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_every_file_of_the_package_is_in_the_wheel_and_nothing_else(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = {line.removeprefix("src/") for line in listed.stdout.splitlines()}
    expected = {name for name in expected if (ROOT / "src" / name).is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    data = {name for name in expected if not name.endswith(".py")}
    assert len(data) > 60 and "vitreous/demo/pretrained/model.safetensors" in data
    assert sorted(data - names) == []
    assert names == expected


def test_what_is_in_the_wheel_is_what_is_in_the_checkout(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".dist-info/" not in name and not name.endswith(".py"):
                assert archive.read(name) == (ROOT / "src" / name).read_bytes()
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert "Requires-Python: >=3.11\n" in text and "Classifier: Typing :: Typed\n" in text
    assert wheel.stat().st_size < LARGEST_WHEEL
