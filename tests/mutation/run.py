"""Try the tests: how many small errors in a module do they see?

A process imports what the tests import (once), then forks for each mutant; the child loads the
mutated source in place of the module's and runs the module's tests until one fails. See README.md.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
sys.path.insert(0, str(FOLDER))

from mutants import mutants  # noqa: E402

PATIENCE = 900.0  # seconds that the tests of a module may take, on a busy machine too
GRACE = 20.0  # seconds beside four times what the tests take


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from a source that is not its file's."""

    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source that was given, whatever is cached."""
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Puts the mutated source in the place of one module."""

    def __init__(self, name: str, source: str):
        self.name, self.source = name, source

    def find_spec(self, fullname, path, target=None) -> ModuleSpec | None:
        """Answer for that one module."""
        if fullname != self.name:
            return None
        file = str(module_file(self.name))
        return importlib.util.spec_from_file_location(
            fullname, file, loader=Mutated(fullname, file, self.source)
        )


def module_file(name: str) -> Path:
    """The source of a module of ours."""
    return (ROOT / "src").joinpath(*name.split(".")).with_suffix(".py")


def start(name: str, source: str | None, tests: list[str], folder: str) -> int:
    """Run tests in a child process with the module's source replaced; returns its id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    gc.disable()
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    if source is not None:
        sys.meta_path.insert(0, Finder(name, source))
    flags = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-m", "not gpu"]
    try:
        status = int(pytest.main([*flags, f"--basetemp={folder}/tests", *tests]))
    except BaseException:
        status = 1
    os._exit(status)


def ends(child: int, limit: float) -> int | None:
    """Wait for a child; its status, or None where it had to be ended."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def warm_up(tests: list[str]) -> None:
    """Import all that the tests import, then forget our own modules and theirs."""
    pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *tests])
    for name in list(sys.modules):
        if name.split(".")[0] in ("vitreous", "helpers", "tests", "conftest"):
            del sys.modules[name]
    # What is there stays for good, and children neither look through it nor copy it.
    gc.collect()
    gc.freeze()


def tried(name: str, tests: list[str], numbers: list[int], limit: float) -> dict[int, str]:
    """Whether the tests see each of these mutants: killed, survived or timeout."""
    made, verdicts = mutants(module_file(name).read_text()), {}
    for number in numbers:
        folder = tempfile.mkdtemp(prefix="mutant-")
        status = ends(start(name, made[number].source, tests, folder), limit)
        shutil.rmtree(folder, ignore_errors=True)
        verdicts[number] = {None: "timeout", 0: "survived"}.get(status, "killed")
        if status == 0:
            m = made[number]
            print(f"  {name}:{m.line} #{number}\n    - {short(m.before)}\n    + {short(m.after)}")
            sys.stdout.flush()
    return verdicts


def short(text: str) -> str:
    """A change on one line."""
    return " ".join(text.split())[:300]


def chosen(count: int, sample: int, seed: int, name: str) -> list[int]:
    """Which mutants of a module are tried: all, or a sample that the seed fixes."""
    if count <= sample:
        return list(range(count))
    return sorted(random.Random(f"{seed}:{name}").sample(range(count), sample))


def measured(name: str, tests: list[str], limit: float) -> float:
    """Seconds that the tests take on the source as it is (parsed and written back)."""
    begin, folder = time.monotonic(), tempfile.mkdtemp(prefix="mutant-")
    source = ast.unparse(ast.parse(module_file(name).read_text()))
    status = ends(start(name, source, tests, folder), limit)
    shutil.rmtree(folder, ignore_errors=True)
    if status != 0:
        raise SystemExit(f"the tests of {name} do not hold before anything is changed ({status})")
    return time.monotonic() - begin


def main() -> None:
    """Try the modules that are named, or all, and write the verdicts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="of ours, without 'vitreous.'; default all")
    parser.add_argument("--sample", type=int, default=60, help="mutants of a module at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the verdicts")
    parser.add_argument("--again", type=Path, help="try only the survivors of this folder")
    parser.add_argument("--only", type=int, nargs="*", help="try these mutants")
    options = parser.parse_args()
    os.chdir(ROOT)
    targets = tomllib.loads((FOLDER / "targets.toml").read_text())
    names = options.modules or list(targets)
    warm_up(sorted({test for name in names for test in targets[name]}))
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        whole, tests = f"vitreous.{name}", targets[name]
        count = len(mutants(module_file(whole).read_text()))
        before: dict[str, str] = {}
        numbers = options.only or chosen(count, options.sample, options.seed, name)
        if options.again:
            before = json.loads((options.again / f"{name}.json").read_text())["verdicts"]
            numbers = [int(n) for n, verdict in before.items() if verdict == "survived"]
        seconds = measured(whole, tests, PATIENCE)
        verdicts = tried(whole, tests, numbers, GRACE + 4 * seconds)
        verdicts = before | {str(n): verdict for n, verdict in verdicts.items()}
        survived = sum(v == "survived" for v in verdicts.values())
        print(f"{name}: {len(verdicts)} of {count} mutants, {survived} survived ({seconds:.1f} s)")
        sys.stdout.flush()
        text = json.dumps({"mutants": count, "verdicts": verdicts}, indent=1)
        (options.out / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
