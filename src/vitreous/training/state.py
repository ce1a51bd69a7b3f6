"""What a run must remember to go on where it stopped, written and read whole."""

from __future__ import annotations

import dataclasses
import logging
import time

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from vitreous.data.readers import Split
from vitreous.training.adversaries.shares import own_state, whole_state
from vitreous.training.changes import DataState, compare_data
from vitreous.training.continuation import continue_checkpoint
from vitreous.training.progress import Progress
from vitreous.training.run import RunFolder, RunState, random_state, restore_random_state
from vitreous.training.sharding import gathered, load_network, load_optimizer

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class TrainingState:
    """Everything of a run that changes, and how it is stored.

    Attributes:
        folder: The run folder.
        accelerator: Devices and processes.
        net: The network, unwrapped.
        optimizer: The optimiser, as the accelerator gave it back.
        split: The images.
        average: The moving average of the network, where one is kept.
        progress: Where the run stands.
        adversary: What the adversary of this process remembers from step to step.
        memory: What the objectives remember from step to step.
        data: What the images were when the run began.
        counted_until: Up to when `progress.seconds` counts.
    """

    folder: RunFolder
    accelerator: Accelerator
    net: nn.Module
    optimizer: torch.optim.Optimizer
    split: Split
    average: nn.Module | None = None
    progress: Progress = dataclasses.field(default_factory=Progress)
    adversary: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    memory: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    data: DataState = dataclasses.field(init=False)
    counted_until: float = dataclasses.field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.data = DataState.of(self.split)

    def count_seconds(self) -> None:
        """Add the time since the last call to that of the run, over all its resumptions."""
        now = time.monotonic()
        self.progress.seconds += now - self.counted_until
        self.counted_until = now

    def save(self) -> None:
        """Write the resumable state."""
        self.accelerator.wait_for_everyone()
        own = {key: value.cpu() for key, value in self.adversary.items()}
        every = gather_object([own])
        model = gathered(self.net.state_dict())
        optimizer = gathered(self.optimizer.state_dict())
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.count_seconds()
        self.folder.save_state(
            {
                "model": model,
                "ema": None if self.average is None else self.average.state_dict(),
                "optimizer": optimizer,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "adversary": [whole_state(every)],
                "memory": {key: value.cpu() for key, value in self.memory.items()},
                "progress": self.progress.values(),
                "random": random_state(),
                "metrics_size": self.folder.metrics_size(),
                "data": self.data.plain(),
            }
        )

    def resume(self) -> bool:
        """Go on from the last state, if there is one; returns whether there was."""
        state = self.folder.load_state(self.net.state_dict())
        if self.accelerator.is_main_process and state is None:
            self.folder.rewind(0)
        if state is None:
            return False
        self._load(state)
        self._compare_data(state)
        restore_random_state(state["random"])
        if self.accelerator.is_main_process:
            self.folder.rewind(state["metrics_size"])
        return True

    def continue_from(self, path: str, epochs: int, steps_per_epoch: int) -> None:
        """Start where a checkpoint of the published scripts stopped."""
        epoch = continue_checkpoint(path, self.net, self.optimizer, epochs)
        self.progress.epoch, self.progress.step = epoch, epoch * steps_per_epoch

    def _load(self, state: RunState) -> None:
        load_network(self.net, state["model"])
        if self.average is not None:
            self.average.load_state_dict(state.get("ema") or state["model"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        processes = (self.accelerator.process_index, self.accelerator.num_processes)
        own = own_state(whole_state(state["adversary"]), *processes)
        self.adversary = {k: v.to(self.accelerator.device) for k, v in own.items()}
        kept = state.get("memory", {})  # states of versions before had none
        self.memory = {k: v.to(self.accelerator.device) for k, v in kept.items()}
        self.progress = Progress(**state["progress"])

    def _compare_data(self, state: RunState) -> None:
        """Notice images that came, went or were replaced since a state was saved."""
        if "data" not in state:  # of a version that did not store it
            return
        self.data = DataState(**state["data"])
        message = compare_data(self.data, self.split)
        if message and message not in self.progress.warnings:
            self.progress.warnings.append(message)
            if self.accelerator.is_main_process:
                logger.warning("%s", message)
