"""The run folder: recipe, metrics, resumable checkpoints, the best model."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from vitreous.config import build, plain, to_yaml
from vitreous.data.loading import derive_seed
from vitreous.errors import CheckpointError, VitreousError
from vitreous.io import atomic_path, finite, read_json_lines, write_text
from vitreous.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes; every file is whole or absent.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The last resumable state."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Pictures with masks and relevance before and after."""
        return self.path / "samples"

    def check(self, recipe: Recipe) -> None:
        """Check that the folder is new, or holds a run of the same recipe.

        Raises:
            VitreousError: If a run of another recipe is there; says which key differs.
        """
        stored = self.path / "recipe.yaml"
        if stored.is_file():
            # Built anew, so that a run from before a setting existed has that setting's default.
            before = build(Recipe, yaml.safe_load(stored.read_text()))
            difference = _difference(plain(before), plain(recipe))
            if difference:
                raise VitreousError(
                    f"{self.path} holds a run of another recipe ({difference}); give another "
                    "folder with --out, or remove it"
                )

    def prepare(self, recipe: Recipe) -> None:
        """Make the folder and store the recipe in it."""
        write_text(self.path / "recipe.yaml", to_yaml(recipe))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write a resumable state, replacing the last one whole."""
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def load_state(self) -> dict[str, Any] | None:
        """Read the last state, or None where there is none.

        Raises:
            CheckpointError: If it cannot be read.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{self.checkpoint} cannot be read: {error}") from error

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(row)) + "\n")

    def rewind(self, size: int) -> None:
        """Cut the metrics to what they were when a state was saved."""
        if self.metrics.is_file():
            with self.metrics.open("r+b") as file:
                file.truncate(min(size, self.metrics.stat().st_size))

    def metrics_size(self) -> int:
        """Bytes of metrics so far."""
        return self.metrics.stat().st_size if self.metrics.is_file() else 0

    def read_metrics(self) -> list[dict[str, Any]]:
        """All rows; a last line that was cut short is left out."""
        return read_json_lines(self.metrics)


def random_state() -> dict[str, Any]:
    """The state of every global generator, as plain values and tensors."""
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every global generator to a stored state."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(*parts: int) -> None:
    """Seed Python, NumPy and torch from some numbers."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed)


def _difference(old: Any, new: Any, key: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            found = _difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found:
                return found
        return ""
    return "" if old == new else f"{key}: {old!r} there, {new!r} now"
