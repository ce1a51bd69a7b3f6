"""Vision models of transformers under a head of ours, as they are written to a folder.

Whole classifiers of transformers are written as transformers reads them (`hugging_face`); a tower
under a linear head or under prompts is no class of theirs, and keeps its configuration here.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vitreous.errors import CheckpointError, VitreousError, require
from vitreous.models.hugging_face import input_size
from vitreous.models.instances import HALF, Description
from vitreous.models.kernel import from_transformers
from vitreous.models.layout import Network
from vitreous.models.libraries import LIBRARIES, Built, Wanted
from vitreous.models.preprocessing import Architecture, Preprocessing
from vitreous.models.towers import TowerClassifier, head_for

# Where a configuration came from and what its own head said: no shape of the tower.
OTHERS = ("_name_or_path", "auto_map", "transformers_version", "id2label", "label2id")


class Transformers:
    """A tower by its configuration."""

    def build(self, wanted: Wanted) -> Built:
        """Build one; see `Library`."""
        arguments = wanted.only("num_classes", "img_size", "config")
        config = arguments.get("config")
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise VitreousError(
                f"transformers:{wanted.name} is read from a folder that vitreous wrote; name a "
                "model of the hub as hf:owner/name"
            )
        tower = _tower(wanted.name, config)
        width = int(tower.config.hidden_size)
        head = head_for(width, arguments.get("num_classes"), wanted.state)
        net = TowerClassifier(tower, head)
        architecture = self.describe(net)
        if architecture is None:
            raise CheckpointError(f"{wanted.name} is no tower of transformers")
        # The folder says the normalization and the rest; here is what it would be without.
        size = arguments.get("img_size") or input_size(tower)
        seen = Preprocessing((size, size) if isinstance(size, int) else (size[0], size[1]))
        return Built(net, architecture, Description(HALF, HALF, seen), wanted.state is None)

    def describe(self, net: nn.Module) -> Architecture | None:
        """Class and configuration of its tower, if its head is one that can be built again."""
        if not isinstance(net, TowerClassifier) or not from_transformers(net.tower):
            return None
        if not net.rebuilds:
            return None
        tower: Network = net.tower
        config = {k: v for k, v in tower.config.to_dict().items() if k not in OTHERS}
        return {
            "architecture": f"transformers:{type(tower).__name__}",
            "model_args": {"config": config},
        }


def _tower(kind: str, config: dict[str, Any]) -> Network:
    """Build a tower; nothing that a configuration names is fetched or run."""
    library = require("transformers", "transformers")
    rest = {k: v for k, v in config.items() if k not in (*OTHERS, "model_type")}
    try:
        settings = library.AutoConfig.for_model(config["model_type"], **rest)
        model = library.AutoModel.from_config(settings, trust_remote_code=False)
    except Exception as error:  # a configuration of any content fails in any way
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"cannot build transformers:{kind}: {line}") from error
    towers = [part for part in model.modules() if type(part).__name__ == kind]
    if not towers:
        raise CheckpointError(
            f"transformers makes a {type(model).__name__} of this configuration, not a {kind}"
        )
    return towers[0]


LIBRARIES.register("transformers")(Transformers())
