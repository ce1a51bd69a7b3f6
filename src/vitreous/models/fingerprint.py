"""What an answer of a model depends on, as one key: architecture, weights, buffers, preparation."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from vitreous.fingerprint import digest
from vitreous.models.classifier import Classifier
from vitreous.models.structure import settings_of


def model_fingerprint(classifier: Classifier) -> str:
    """Tell one classifier from another by everything that its answers depend on.

    That is: the class and the plain settings of every module (`num_heads`, `global_pool`, `eps`,
    …; private ones too), all parameters and buffers, those that no checkpoint holds too, the
    normalization, and the preprocessing. Names, modes, devices and registered hooks do not matter.

    Returns:
        16 hexadecimal characters.
    """
    return digest(
        [[name, *settings_of(module)] for name, module in classifier.net.named_modules()],
        [[name, tensor_digest(value)] for name, value in classifier.net.named_parameters()],
        [[name, tensor_digest(value)] for name, value in classifier.net.named_buffers()],
        [tensor_digest(classifier.mean), tensor_digest(classifier.std)],
        classifier.preprocessing,
    )


def tensor_digest(value: Tensor) -> str:
    """Digest of a tensor's type, shape and content."""
    content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    total = hashlib.blake2b(f"{value.dtype} {tuple(value.shape)} ".encode(), digest_size=8)
    total.update(content.data)
    return total.hexdigest()
