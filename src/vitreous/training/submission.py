"""Training as a job of a cluster: submitted, stopped before its time is up, queued again, gone on.

submitit writes the job, starts its processes and queues it again; a run folder goes on by itself.
What is here joins the two: a signal before the time limit, or of a machine that is taken away, lets
the step be finished and the state saved; then submitit's own handler queues the job again.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous.errors import InterruptedRun, VitreousError, require
from vitreous.folders import claim_folder
from vitreous.training.engine import train
from vitreous.training.recipe import Recipe
from vitreous.training.run import RunFolder

if TYPE_CHECKING:
    from submitit import Job
    from submitit.helpers import DelayedSubmission

JOBS = "jobs"


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a job asks for.

    Attributes:
        minutes: Time limit; the job is queued again when it is up.
        nodes: Machines.
        processes: Processes a node; one for each GPU where there are GPUs.
        gpus: GPUs a node.
        cpus: CPU cores a process.
        memory: Gigabytes a node; the cluster's own where not given.
        partition: Of Slurm; the cluster's own where not given.
        grace: Seconds before the time limit at which Slurm tells the job; 30 on this machine.
        requeues: How often it is queued again when its time is up.
    """

    minutes: int = 720
    nodes: int = 1
    processes: int = 1
    gpus: int = 0
    cpus: int = 4
    memory: float | None = None
    partition: str | None = None
    grace: int = 120
    requeues: int = 20

    def parameters(self, cluster: str) -> dict[str, Any]:
        """As submitit calls them."""
        own: dict[str, Any] = {
            "timeout_min": self.minutes,
            "nodes": self.nodes,
            "tasks_per_node": self.gpus or self.processes,
            "gpus_per_node": self.gpus,
        }
        if cluster == "local":
            return own
        slurm = {"cpus_per_task": self.cpus, "slurm_signal_delay_s": self.grace}
        if self.memory is not None:
            slurm["mem_gb"] = self.memory
        if self.partition is not None:
            slurm["slurm_partition"] = self.partition
        return {**own, **slurm}


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """What each process of a job does; submitit keeps it beside the job and calls it.

    Attributes:
        recipe: The experiment, resolved.
        out: The run folder.
        overwrite: Write to the folder although it holds what we did not make.
    """

    recipe: Recipe
    out: Path
    overwrite: bool = False

    def __call__(self) -> str:
        """Train, or go on; asked to stop, save and have the job queued again."""
        from submitit.helpers import TorchDistributedEnvironment

        place = TorchDistributedEnvironment()
        if place.world_size > 1:
            place.export(set_cuda_visible_devices=False, overwrite=True)
        try:
            train(self.recipe, self.out, quiet=place.rank > 0, overwrite=self.overwrite)
        except InterruptedRun as stop:
            print(stop, flush=True)
            queue_again(stop.status - 128)
            raise
        return str(self.out)

    def checkpoint(self) -> DelayedSubmission:
        """What is queued again: the same, since the run folder knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def queue_again(number: int) -> None:
    """Hand a signal on to submitit, whose handler queues the job again and ends the process."""
    from submitit import JobEnvironment

    handler = signal.getsignal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))
    if callable(handler):
        handler(number, None)


def submit(
    recipe: Recipe,
    out: Path,
    *,
    cluster: str,
    resources: Resources,
    overwrite: bool = False,
) -> Job[str]:
    """Submit a training; returns at once.

    Args:
        recipe: The experiment.
        out: The run folder; every machine must see it under this path. `out/jobs` gets the logs.
        cluster: `slurm`, or `local` for processes of this machine.
        resources: What the job asks for.
        overwrite: Write to the folder although it holds what we did not make.

    Returns:
        submitit's job.

    Raises:
        VitreousError: If submitit or the cluster is not there, or the folder is not the run's.
    """
    submitit = require("submitit", "slurm")
    out = out.expanduser().absolute()
    RunFolder(out).check(recipe, overwrite)
    if cluster == "slurm" and submitit.SlurmExecutor.affinity() <= 0:
        raise VitreousError(
            "--submit slurm: there is no srun here; submit from a machine of the cluster, or give "
            "--submit local"
        )
    claim_folder(out, "run", overwrite=overwrite)
    executor = submitit.AutoExecutor(
        out / JOBS, cluster=cluster, **{f"{cluster}_max_num_timeout": resources.requeues}
    )
    executor.update_parameters(name=out.name, **resources.parameters(cluster))
    return executor.submit(TrainingJob(recipe, out, overwrite))
