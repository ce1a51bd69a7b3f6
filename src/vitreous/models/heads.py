"""The head of a network: how many logits it has, and which of its weights are it."""

from __future__ import annotations

from torch import nn

from vitreous.errors import UnsupportedModelError
from vitreous.models.layout import Network

HEADS = ("head", "heads", "fc", "classifier", "head_dist")


def logit_count(net: nn.Module) -> int:
    """Number of logits by the last layer, else by what the network says; 0 where neither does.

    A head that was put on later (`net.head = nn.Linear(192, 3)`) leaves `net.num_classes` as it
    was, so the layer is asked first.
    """
    for name in ("head", "heads", "fc", "classifier"):
        layer = _last(getattr(net, name, None))
        if layer is not None:
            return layer.out_features
    if (layer := _last(net)) is not None:
        return layer.out_features
    said = getattr(net, "num_classes", 0) or getattr(net, "num_labels", 0)
    if not said and type(net).__module__.startswith("open_clip."):
        said = getattr(net, "output_dim", 0)  # a tower as it is: its features are the logits
    return int(said or 0)


def is_headless(net: nn.Module) -> bool:
    """Whether a network says that it has no classes: what it gives are features."""
    return getattr(net, "num_classes", None) == 0 and logit_count(net) == 0


def require_head(classifier: Network) -> None:
    """Refuse a classifier whose network has no head.

    Raises:
        UnsupportedModelError: If that is so.
    """
    net = classifier.net
    if is_headless(net):
        raise UnsupportedModelError(
            f"{type(net).__name__} has no head (num_classes=0), so what it gives are features and "
            "no classes; load it with its head, or with num_classes=N and a checkpoint that has one"
        )


def head_names(net: nn.Module) -> set[str]:
    """First parts of the names of the weights that are a network's head."""
    names = {*HEADS}
    if isinstance(net, nn.Sequential) and _last(net) is not None:
        names.add(str(len(net) - 1))
    if type(net).__module__.startswith("open_clip."):
        names.add("proj")
    return names


def _last(part: object) -> nn.Linear | None:
    """A linear layer, or that at the end of a sequence or of timm's heads (`head.fc`)."""
    if isinstance(part, nn.Sequential) and len(part):
        return _last(part[-1])
    part = getattr(part, "fc", part)
    return part if isinstance(part, nn.Linear) else None
