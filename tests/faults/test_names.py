"""Names of files that nobody chose with programs in mind, through commands that read images."""

from __future__ import annotations

import os
import shutil

import pytest

from faults.bench import Bench

NAMES = {
    "not UTF-8": b"\xff\xfe.png",
    "a formula": rb"$\frac$.png",
    "an open formula": b"a$b.png",
    "braces": b"{0}{x}%s.png",
    "a line feed": b"a\nb.png",
    "a quote": b"a'b\"c.png",
    "as long as may be": b"x" * 251 + b".png",
    "a dash": b"-rf.png",
    "spaces": b"  a .png",
    "right to left": "אב\u202egnp.png".encode(),
    "markup": b"<script>alert(1)<&.png",
    "commas": b'a,"b",c.png',
}
COMMANDS = {
    "explain": "explain images --model model --quiet --out out",
    "evaluate": "evaluate model --data images --masks masks --no-removal --workers 0 --out out",
    "attack": "attack model --data images --attack fgsm --epsilon 1/255 --workers 0 --out out",
    "attack one": "attack model --image NAME --attack fgsm --epsilon 1/255 --out out",
    "mask": "mask images --method png --masks masks --minimum-pixels 1 --out out",
    "train": "train recipe.yaml --training.samples 3 --quiet --out out",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_is_only_a_name(command: str, name: str, bench: Bench) -> None:
    for kind in ("images", "masks"):
        place = os.fsencode(bench.root / kind / "class_0")
        os.rename(os.path.join(place, b"0.png"), os.path.join(place, NAMES[name]))
    image = os.path.join("images/class_0", os.fsdecode(NAMES[name]))
    outcome = bench.run([image if w == "NAME" else w for w in COMMANDS[command].split()])
    if command == "attack one" and name == "as long as may be":  # what is added is too much
        assert "choose a shorter name" in outcome.line
    else:
        assert outcome.status == 0, outcome.line


@pytest.mark.parametrize("name", ["out/é", "out/a b", "out/$\\frac$", "out/" + "x" * 200])
def test_a_folder_to_write_to_may_be_called_so_too(name: str, bench: Bench) -> None:
    (bench.root / "out").mkdir()
    outcome = bench.run(["evaluate", "model", "--data", "images", "--workers", "0", "--out", name])
    assert outcome.status == 0, outcome.line
    shutil.copytree(bench.root / "run", bench.root / "out" / "$\\frac$ & <b>", dirs_exist_ok=True)
    shown = bench.run(["report", "out/$\\frac$ & <b>", "--out", "out/card.html"])
    assert shown.status == 0, shown.line
    assert "& <b>" not in (bench.root / "out" / "card.html").read_text()
