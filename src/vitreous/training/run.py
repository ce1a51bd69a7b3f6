"""The run folder: recipe, metrics, resumable checkpoints, the best model."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from vitreous.config import build, read_yaml, to_yaml
from vitreous.data.loading import derive_seed
from vitreous.disk import temporary_path, writing
from vitreous.errors import CheckpointError, VitreousError
from vitreous.folders import check_folder, claim_folder
from vitreous.io import append_text, atomic_path, finite, read_json_lines, write_text
from vitreous.models.checkpoints import read_pickle
from vitreous.training.going_on import changed, refusal
from vitreous.training.progress import ProgressValues
from vitreous.training.recipe import Recipe

logger = logging.getLogger(__name__)
MetricsRow = Mapping[str, object]


class RandomState(TypedDict):
    """The state of every global generator, as plain values and tensors."""

    python: tuple[int, list[int], float | None]
    numpy: tuple[str, Tensor, int, int, float]
    torch: Tensor
    cuda: list[Tensor]


class RunState(TypedDict):
    """What is stored of a run, so that it can go on."""

    model: dict[str, Tensor]
    ema: NotRequired[dict[str, Tensor] | None]
    optimizer: dict[str, object]
    scaler: dict[str, object] | None
    adversary: list[dict[str, Tensor]]
    memory: NotRequired[dict[str, Tensor]]
    progress: ProgressValues
    random: RandomState
    metrics_size: int
    data: NotRequired[dict[str, Tensor]]


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
        """Images with masks and relevance before and after."""
        return self.path / "samples"

    @property
    def previous_checkpoint(self) -> Path:
        """The state before the last, for when the last cannot be read."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def has_state(self) -> bool:
        """Whether there is a state to go on from, or what is left of one."""
        return self.checkpoint.is_file() or self.previous_checkpoint.is_file()

    def check(self, recipe: Recipe, overwrite: bool = False) -> set[str]:
        """Check that the folder is new, or holds a run that may go on; writes nothing.

        A run may take more epochs, other workers, samples and trackers; see `going_on`.

        Args:
            recipe: The experiment.
            overwrite: Whether a folder that we did not make may be written to.

        Raises:
            VitreousError: If something else is there, or a run of another recipe; says which key
                differs.

        Returns:
            Keys of the recipe that differ.
        """
        check_folder(self.path, "run", overwrite=overwrite)
        stored = self.path / "recipe.yaml"
        if stored.is_file():
            try:
                # Built anew, so that a run from before a setting existed has its default.
                before = build(Recipe, read_yaml(stored))
            except (VitreousError, OSError, RecursionError) as error:
                raise VitreousError(
                    f"{stored} cannot be read, so what this run is of is not known ({error}); "
                    "put it back, or give another folder with --out"
                ) from error
            reason = refusal(before, recipe)
            if reason:
                raise VitreousError(
                    f"{self.path} holds a run of another recipe ({reason}); give another "
                    "folder with --out, or remove it"
                )
            return {*changed(before, recipe)}
        return set()

    def prepare(self, recipe: Recipe, overwrite: bool = False) -> None:
        """Make the folder ours, store the recipe in it, remove what a killed run left half-done."""
        claim_folder(self.path, "run", overwrite=overwrite)
        write_text(self.path / "recipe.yaml", to_yaml(recipe))

    def save_state(self, state: RunState) -> None:
        """Write a resumable state whole; the one before it is kept."""
        with atomic_path(self.checkpoint) as temporary:
            with temporary.open("wb") as file:
                torch.save(state, file)
            if self.checkpoint.is_file():
                self._keep_previous()

    def _keep_previous(self) -> None:
        """Give the last state a second name, or another name where a file can have only one."""
        previous = self.previous_checkpoint
        if previous.exists() and previous.samefile(self.checkpoint):  # a kill came after this
            return
        spare = temporary_path(previous)  # what a kill leaves of it is tidied
        try:
            spare.unlink(missing_ok=True)
            os.link(self.checkpoint, spare)
        except OSError:
            spare = self.checkpoint
        os.replace(spare, previous)

    def load_state(self, like: Mapping[str, Tensor] | None = None) -> RunState | None:
        """Read the last state that can be used, or None where there is none.

        Where the last cannot be read, the one before it is used, with a word.

        Args:
            like: The model's own state; a state of other names or shapes does not fit. Not looked
                at where not given.

        Raises:
            CheckpointError: If none of those that are there can be used.
        """
        problems = []
        for file in (self.checkpoint, self.previous_checkpoint):
            if not file.is_file():
                continue
            try:
                state = read_state(file, like)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                logger.warning("%s; going on from the state before it, %s", problem, file.name)
            return state
        if problems:
            raise CheckpointError(
                f"{'; '.join(problems)}; remove {self.checkpoint.parent} to begin anew"
            )
        return None

    def log(self, row: Mapping[str, object]) -> None:
        """Append a row to the metrics."""
        append_text(self.metrics, json.dumps(finite(row)) + "\n")

    def rewind(self, size: int) -> None:
        """Cut the metrics to what they were when a state was saved."""
        if self.metrics.is_file():
            with writing(self.metrics), self.metrics.open("r+b") as file:
                file.truncate(min(size, self.metrics.stat().st_size))

    def metrics_size(self) -> int:
        """Bytes of metrics so far."""
        return self.metrics.stat().st_size if self.metrics.is_file() else 0

    def read_metrics(self) -> Sequence[MetricsRow]:
        """All rows; a last line that was cut short is left out."""
        return read_json_lines(self.metrics)


def read_state(file: Path, like: Mapping[str, Tensor] | None = None) -> RunState:
    """Read one resumable state.

    Args:
        file: Where it is.
        like: The model's own state, if it is to be compared.

    Raises:
        CheckpointError: If it cannot be read, is no state of a run, or of another model.
    """
    state = read_pickle(file)
    if not isinstance(state, dict) or not state.keys() >= RunState.__required_keys__:
        raise CheckpointError(f"{file} is not the state of a run of this version")
    if like is None:
        return state
    model = state["model"]
    if not isinstance(model, dict) or model.keys() != like.keys():
        raise CheckpointError(f"{file} is the state of another model")
    for name, value in like.items():
        if not isinstance(model[name], Tensor) or model[name].shape != value.shape:
            raise CheckpointError(f"{file} is the state of another model: {name} differs")
    return state


def random_state() -> RandomState:
    """The state of every global generator, as plain values and tensors."""
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    stored = torch.from_numpy(np.array(keys, dtype=np.int64))
    return {
        "python": (version, list(words), gauss),
        "numpy": (str(kind), stored, int(place), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: RandomState) -> None:
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
