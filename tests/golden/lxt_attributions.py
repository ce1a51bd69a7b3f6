"""Write AttnLRP and CP-LRP attributions of lxt 2.1 for a small random network.

    python lxt_attributions.py OUT.npz

Runs where lxt and transformers are installed, beside this package's tests. The network is Hugging
Face's ViT with the weights of `converted.timm_twin`, patched by lxt as it patches language models.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn
from transformers.models.vit import modeling_vit

TESTS = Path(__file__).parents[1]


def main(path: str) -> None:
    # lxt's tables of other models import what newer versions of transformers no longer have.
    tables = ModuleType("lxt.efficient.models")
    vars(tables)["get_default_map"] = None
    sys.modules["lxt.efficient.models"] = tables
    sys.path[:0] = [str(TESTS), str(TESTS / "models")]
    from lxt.efficient import patches
    from test_other_libraries import hugging_face_vit  # ty: ignore[import-not-found]

    from golden.other_attributions import TARGET, test_images

    _, net = hugging_face_vit()
    net.set_attn_implementation("eager")
    patches.patch_method(patches.layer_norm_forward, nn.LayerNorm)
    function = type(net.vit.layers[0].mlp.activation_fn)
    patches.patch_method(patches.non_linear_forward, function, keep_original=True)
    plain, arrays = modeling_vit.eager_attention_forward, {}
    wraps = {
        "attn_lrp": patches.wrap_attention_forward,
        "cp_lrp": patches.cp_wrap_attention_forward,
    }
    for name, wrap in wraps.items():
        modeling_vit.eager_attention_forward = wrap(plain)
        pixels = ((test_images() - 0.5) / 0.5).requires_grad_()
        torch.autograd.backward(net(pixels).logits[:, TARGET].sum())
        arrays[name] = (pixels * pixels.grad).detach().numpy()
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
