"""What `vitreous explain` does: maps of images through the measuring loop, then their files."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.attribution import METHODS
from vitreous.attribution.draw import check_color_map, panel
from vitreous.commands.explanation_files import (
    Drawing,
    ExplainedImage,
    Explanations,
    note_settings,
    top_classes,
    write_maps,
)
from vitreous.commands.options import resolve_device, resolve_workers
from vitreous.data.dataset import UNKNOWN, Dataset
from vitreous.data.images import list_images, save_gif
from vitreous.data.stores import FileImages
from vitreous.errors import ImageError, UnsupportedModelError, VitreousError, printable
from vitreous.evaluation.evaluators.explanation import supported_methods
from vitreous.evaluation.evaluators.maps import (
    MappedImages,
    MapSettings,
    map_images,
    method_names,
)
from vitreous.evaluation.stream import StreamSettings
from vitreous.folders import claim_folder
from vitreous.io import write_json
from vitreous.models import Classifier, load_model
from vitreous.models.families import layout_of
from vitreous.processes import Processes, current_processes
from vitreous.progress import ProgressBar

if TYPE_CHECKING:
    from vitreous.commands.explain import Command

SHOWN = 20


def explain_images(command: Command) -> None:
    """Explain images, write what was asked for, print the classes.

    Raises:
        ImageError: For images that cannot be read, unless such are skipped.
        VitreousError: If none can be read.
        UnsupportedModelError: If no method holds for a model.
    """
    methods = method_names() if command.method == ("all",) else list(command.method)
    for name in methods:
        METHODS[name]  # an unknown name is refused before any work
    check_color_map(command.color_map)
    paths = list_paths(command.images, command.skip_unreadable)
    require_apart(command.out, paths)
    processes = current_processes(cpu=command.device == "cpu")
    models = load_models(command, processes)
    if processes.main:
        claim_folder(command.out, "explanations", overwrite=command.overwrite)
    processes.wait()
    _explain(command, paths, models, tuple(methods), processes)


def _explain(
    command: Command,
    paths: list[Path],
    models: list[Classifier],
    methods: tuple[str, ...],
    processes: Processes,
) -> None:
    making = MapSettings(methods, command.target, command.start_layer)
    progress = processes.main and not command.quiet and len(paths) > 3
    streaming = StreamSettings(
        command.batch_size,
        resolve_workers(command.workers, models[0].device, processes.count),
        command.precision,
        progress=progress,
        restart=command.restart,
        check_content=command.check_content,
    )
    dataset, rows = image_dataset(paths), command.out / "rows"
    mapped = [
        map_images(m, dataset, making, rows, streaming=streaming, processes=processes)
        for m in models
    ]
    explained = Explanations(mapped, paths, command.out, _drawing(command))
    require_readable(explained, command.skip_unreadable)
    if processes.main:
        for model in mapped:
            tell_left_out(model, methods)
        note_settings(explained)
    processes.wait()
    draw_all(explained, processes, progress)
    processes.wait()
    if processes.main:
        write_whole(explained)


def _drawing(command: Command) -> Drawing:
    return Drawing(
        command.save,
        command.color_map,
        command.strength,
        command.grid,
        command.gif,
        command.gif_seconds,
    )


def load_models(command: Command, processes: Processes) -> list[Classifier]:
    """The model, and the one that it is compared with."""
    device, size = resolve_device(command.device, processes.rank), command.image_size
    load = functools.partial(load_model, image_size=size, device=device, prompts=command.prompts)
    models = [load(command.model, checkpoint=command.checkpoint)]
    models += [] if command.compare is None else [load(command.compare)]
    for model in models if size is not None else ():
        with contextlib.suppress(UnsupportedModelError):  # occlusion may do
            layout_of(model.net, model.preprocessing.size)  # refuses a size that does not fit
    return models


def tell_left_out(mapped: MappedImages, asked: tuple[str, ...]) -> None:
    """Print a line for each method that was asked for and does not hold for the model."""
    missing = tuple(m for m in asked if m not in mapped.evaluator.making.methods)
    for method, why in supported_methods(mapped.classifier, missing)[1].items():
        print(f"no map by {method}: {why}")


def require_apart(out: Path, paths: Sequence[Path]) -> None:
    """Refuse to draw over the images that are explained; raises VitreousError."""
    if out.resolve() in {path.resolve().parent for path in paths}:
        raise VitreousError(f"{out} holds the images that are explained; choose another --out")


def list_paths(given: Sequence[Path], skip_unreadable: bool = False) -> list[Path]:
    """The image files that were given, and those in the folders that were given.

    Raises:
        ImageError: If one is not there, unless such are skipped.
    """
    missing = [path for path in given if not os.path.exists(path)]
    if missing and not skip_unreadable:
        raise ImageError(f"no picture at {printable(missing[0])}")
    return [p for path in given for p in (list_images(path) if path.is_dir() else [path])]


def image_dataset(paths: Sequence[Path]) -> Dataset:
    """Image files as a dataset without labels."""
    labels = np.full(len(paths), UNKNOWN, dtype=np.int64)
    return Dataset(FileImages(Path(), [str(path) for path in paths]), labels)


def require_readable(explained: Explanations, skip_unreadable: bool) -> None:
    """Refuse images that could not be read, unless such are skipped; raises ImageError."""
    skipped, total = explained.skipped(), len(explained.paths)
    if skipped and not explained.entries():
        raise VitreousError(f"none of {total} pictures can be read; first: {skipped[0]}")
    if skipped and not skip_unreadable:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        advice = "--skip-unreadable leaves such pictures out, and what is done is kept"
        raise ImageError(f"{skipped[0]}{more}; {advice}")


def draw_all(explained: Explanations, processes: Processes, progress: bool) -> None:
    """Write the files of single images: one process's share of them."""
    entries = explained.entries()[processes.rank :: processes.count]
    for entry in ProgressBar(entries, desc="drawing", quiet=not progress):
        explained.draw(entry)


def write_whole(explained: Explanations) -> None:
    """Write what is made of all images together, and print what the models say."""
    entries, out, how = explained.entries(), explained.out, explained.drawing
    if "npz" in how.save:
        write_maps(explained, entries, out / "maps.npz")
    if how.grid:
        few = entries[: how.grid]
        panel([line for entry in few for line in explained.lines(entry)], out / "grid.png")
    if how.gif:
        frames = (explained.frame(entry) for entry in entries)
        save_gif(frames, out / "animation.gif", round(1000 * how.seconds))
    values = [explained.values(entry) for entry in entries]
    write_json(out / "explanations.json", {"pictures": values, "skipped": explained.skipped()})
    _tell(explained, entries)


def _tell(explained: Explanations, entries: Sequence[ExplainedImage]) -> None:
    for entry in entries[:SHOWN]:
        for _, mapped, row in explained.places(entry):
            print(f"{entry.path}  ({mapped.classifier.name})")
            for number, name, probability in top_classes(mapped, row):
                print(f"  {probability:7.2%}  {name} [{number}]")
    if len(entries) > SHOWN:
        print(f"… and {len(entries) - SHOWN} more: {explained.out / 'explanations.json'}")
    if constant := sum(int(row["constant"].sum()) for p in entries for row in p.rows):
        maps = "1 map is" if constant == 1 else f"{constant} maps are"
        print(f"{maps} constant, and so shown as zeros")
    for line in (skipped := explained.skipped())[:SHOWN]:
        print(f"skipped: {line}")
    note = f", {len(skipped)} skipped" if skipped else ""
    made = ", ".join([*_made(explained.drawing), "explanations.json"])
    count = f"{len(entries)} picture{'s' * (len(entries) != 1)}"
    print(f"{count} explained{note}: {made} in {explained.out}")


def _made(how: Drawing) -> list[str]:
    folders = [f"{kind}s/" for kind in how.save if kind not in ("panel", "npz")]
    return [
        *(["PNG"] if "panel" in how.save else []),
        *folders,
        *(["maps.npz"] if "npz" in how.save else []),
        *(["grid.png"] if how.grid else []),
        *(["animation.gif"] if how.gif else []),
    ]
