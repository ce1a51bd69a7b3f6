"""Weights are read as weights: safetensors, or pickles in weights-only mode."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any, TypedDict

import safetensors
import safetensors.torch
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from vitreous.errors import CheckpointError
from vitreous.io import check_path
from vitreous.models.heads import head_names
from vitreous.models.layout import Network

logger = logging.getLogger(__name__)

STATE_KEYS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")
PREFIXES = ("", "module.", "model.", "net.", "backbone.", "encoder.", "module.model.")
CODE = re.compile(r"(?i)global|unsupported class|reduce")


class OptimizerState(TypedDict):
    """State of an optimizer as torch writes it.

    Attributes:
        state: Number of a parameter → what is remembered of it.
        param_groups: Groups with the numbers of their `params`, and their settings.
    """

    state: dict[int, dict[str, object]]
    param_groups: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a weight file holds.

    Attributes:
        state: Parameter name → tensor, as stored.
        architecture: The architecture that the file names (`arch`), if it does.
        details: Its other plain entries, for example `epoch` and `best_prec1`.
        optimizer: The optimiser's `state` and `param_groups`, if it holds them.
    """

    state: dict[str, Tensor]
    architecture: str | None = None
    details: dict[str, object] = dataclasses.field(default_factory=dict)
    optimizer: OptimizerState | None = None


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read a weight file without running any code that it may hold.

    Raises:
        CheckpointError: If it is missing, corrupt, or holds more than weights.
    """
    check_path(path, "weights")
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no weights at {file}")
    if file.suffix == ".safetensors":
        try:
            return Weights(safetensors.torch.load_file(file))
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{file} is corrupt or cut short: {_line(error)}") from error
    raw = read_pickle(file)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{file}: expected a state dict, found {type(raw).__name__}")
    inner = next((raw[k] for k in STATE_KEYS if isinstance(raw.get(k), dict)), raw)
    state = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(f"{file} holds no tensors under any of {', '.join(STATE_KEYS)}")
    details: dict[str, object] = {k: v for k, v in raw.items() if isinstance(v, (int, float, str))}
    optimizer = raw.get("optimizer")
    whole = isinstance(optimizer, dict) and {"state", "param_groups"} <= optimizer.keys()
    arch = details.get("arch")
    return Weights(
        state, arch if isinstance(arch, str) else None, details, optimizer if whole else None
    )


def read_pickle(file: Path) -> Any:
    """Read a pickle of torch in weights-only mode: tensors and plain values, no code.

    Raises:
        CheckpointError: If it is empty, cut short, no such file, or asks to run code.
    """
    try:
        if file.stat().st_size == 0:
            raise CheckpointError(f"{file} is empty (0 bytes)")
        with warnings.catch_warnings():
            # Other pickle protocols are warned of; if they cannot be read, that is an error here.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # What torch says here advises to load it without protection.
        if CODE.search(str(error)):
            raise CheckpointError(
                f"{file} is not a file of weights only: it asks to run code when loaded, which is "
                "refused; save model.state_dict() and use that"
            ) from error
        raise CheckpointError(
            f"{file} is not a file of weights only: it is corrupt, or asks for more when loaded, "
            "which is refused"
        ) from error
    except Exception as error:  # a pickle of any bytes fails in any way
        why = "" if "weights_only" in str(error) else f": {_line(error)}"
        raise CheckpointError(f"{file} is corrupt or cut short{why}") from error


def load_weights(net: nn.Module, state: dict[str, Tensor], source: str = "the state") -> bool:
    """Load weights into a network, matching prefixes, head size and position embeddings.

    A head of another size stays as initialised, and that is logged; anything else that does not
    fit is an error.

    Returns:
        Whether the head stays as initialised.

    Raises:
        CheckpointError: If the state belongs to another architecture, or is not finite.
    """
    own = net.state_dict()
    prefix = max(PREFIXES, key=lambda p: sum(p + key in state for key in own))
    state = {
        k.removeprefix(prefix): v.float() if v.is_floating_point() else v
        for k, v in state.items()
        if k.startswith(prefix)
    }
    adapt = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if adapt is not None and any(k in own and own[k].shape != v.shape for k, v in state.items()):
        state = _with_positions(adapt(state, net), net, own)
    heads = [k for k in own if k.split(".")[0] in head_names(net)]
    new_head = any(k not in state or state[k].shape != own[k].shape for k in heads)
    skip = set(heads) if new_head else set()
    missing = [k for k in own if k not in state and k not in skip]
    shapes = [k for k in own if k in state and state[k].shape != own[k].shape and k not in skip]
    if missing or shapes:
        example = (
            f"{shapes[0]} is {tuple(state[shapes[0]].shape)}, expected "
            f"{tuple(own[shapes[0]].shape)}"
            if shapes
            else f"{missing[0]} is missing"
        )
        raise CheckpointError(
            f"{source} is of another architecture than {type(net).__name__}: of {len(own)} "
            f"tensors {len(missing)} are missing and {len(shapes)} have another shape ({example})"
        )
    _require_finite(net, state, source)
    if new_head:
        logger.warning("%s: the head does not fit and starts anew", source)
    net.load_state_dict({k: state.get(k, own[k]) if k not in skip else own[k] for k in own})
    return new_head


def _with_positions(
    state: dict[str, Tensor], net: Network, own: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Resize position embeddings that timm's own filter left as they were (CaiT's)."""
    name, grid = "pos_embed", getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if name not in state or name not in own or grid is None:
        return state
    found, wanted = state[name], own[name]
    prefix = wanted.shape[1] - grid[0] * grid[1]
    side = math.isqrt(max(0, found.shape[1] - prefix))
    square = found.ndim == 3 and prefix >= 0 and side * side == found.shape[1] - prefix
    if found.shape == wanted.shape or found.shape[2:] != wanted.shape[2:] or not square:
        return state
    resized = resample_abs_pos_embed(found, list(grid), [side, side], prefix)
    return state | {name: resized}


def _require_finite(net: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Refuse weights that answer nothing, whatever the image."""
    names = [name for name, _ in net.named_parameters() if name in state]
    bad = [name for name in names if not bool(state[name].isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{source}: {len(bad)} of {len(names)} weights are not finite, the first is {bad[0]}; "
            "the training that wrote them diverged, or the file is damaged"
        )


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
