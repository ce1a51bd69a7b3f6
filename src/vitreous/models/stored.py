"""What a folder of weights says of its model: timm's `config.json`, read and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vitreous.config import convert
from vitreous.errors import CheckpointError, VitreousError
from vitreous.io import read_json
from vitreous.models.libraries import library_of
from vitreous.models.preprocessing import Preprocessing

TOWER = "TowerClassifier"
Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]
CropMode = Literal["center", "squash", "border"]

# What timm's `create_model` takes beside a network's own arguments: files, places and names to
# fetch. A folder may come from others, so it decides none of them.
NOT_STORED = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("scriptable", "exportable", "no_jit", "features_only"),
)
LARGEST = 65_535
"""Of the numbers that a network is built of: sides, widths, depths."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """What a folder or a file says of a model beside its weights; None where it does not."""

    model_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    class_names: Sequence[str] | None = None
    name: str = ""
    image_size: tuple[int, int] | None = None
    crop_ratio: float | None = None
    interpolation: Interpolation | None = None
    crop_mode: CropMode | None = None

    def seen(
        self, preprocessing: Preprocessing, size: int | Sequence[int] | None = None
    ) -> Preprocessing:
        """The network's own preprocessing, with what is stored and the input size in its place."""
        stored = {
            "crop_ratio": self.crop_ratio,
            "interpolation": self.interpolation,
            "crop_mode": self.crop_mode,
        }
        given: dict[str, Any] = {k: value for k, value in stored.items() if value is not None}
        if size is not None:
            given["size"] = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        return dataclasses.replace(preprocessing, **given)


def read_stored(folder: Path) -> tuple[str, Stored]:
    """Read the architecture of a folder, and what else its `config.json` says.

    Raises:
        VitreousError: If there is no such file, it names no architecture, a value is of another
            type than timm's, or asks for more than a network.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise VitreousError(
            f"{folder} is no model: it holds no config.json; give a run folder, weights or a timm "
            "name"
        )
    config = read_json(file)
    if not isinstance(config, dict) or "architecture" not in config:
        raise CheckpointError(f"{file} names no 'architecture'; is it a model?")

    def read(values: Mapping[str, object], key: str, kind: object) -> Any:
        return convert(kind, values.get(key), f"{file}: {key}")

    view = read(config, "pretrained_cfg", dict[str, Any] | None) or {}
    size = read(view, "input_size", tuple[int, int, int] | None)
    stored = Stored(
        model_args=read(config, "model_args", dict[str, Any] | None) or {},
        mean=read(view, "mean", tuple[float, float, float] | None),
        std=read(view, "std", tuple[float, float, float] | None),
        class_names=read(config, "label_names", list[str] | None),
        name=_name(config, folder),
        image_size=None if size is None else size[1:],
        crop_ratio=read(view, "crop_pct", float | None),
        interpolation=read(view, "interpolation", Interpolation | None),
        crop_mode=read(view, "crop_mode", CropMode | None),
    )
    architecture = read(config, "architecture", str)
    named = architecture if library_of(architecture) is None else architecture.partition(":")[2]
    if set(named) & set(":/"):
        raise CheckpointError(f"{file}: architecture: expected a timm name, found {architecture}")
    _require_plain(stored.model_args, file)
    return architecture, stored


def _require_plain(arguments: Mapping[str, object], file: Path) -> None:
    for key, value in arguments.items():
        if key in NOT_STORED:
            raise CheckpointError(f"{file}: model_args: '{key}' is no argument of a network")
        if isinstance(value, dict):  # a configuration of transformers
            _require_plain(value, file)
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, int | float) and not abs(number) <= LARGEST:
                raise CheckpointError(
                    f"{file}: model_args: {key}: expected at most {LARGEST}, found {number}"
                )


def _name(config: Mapping[str, object], path: Path) -> str:
    """The name that was stored, unless it is the architecture's or the folder is a run's.

    A run's weights are stored under the name of the model that it started from.
    """
    if (path / "recipe.yaml").is_file():
        return path.resolve().name
    stored = str(config.get("vitreous_name") or config["architecture"])
    architecture = str(config["architecture"])
    # Of a network that was given as it is, the name is its class.
    plain = stored.startswith(architecture) or stored in (*architecture.split(":"), TOWER)
    return path.resolve().name if plain else stored
