"""Write attributions of captum, pytorch-grad-cam and legrad-torch for a small random network.

    python other_attributions.py captum|gradcam|legrad OUT.npz

Each part runs where that package is installed (captum 0.9.0, grad-cam 1.5.7, legrad-torch 1.1) and
adds its arrays to OUT. The network and the images are `converted.timm_twin` and `test_images`, so
that nothing of ours computes what is compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from converted import DEPTH, HEADS, OPEN_CLIP_BLOCK, PATCH, SIZE, WIDTH, block_state, timm_twin

TARGET = 2


def test_images() -> Tensor:
    return torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(11))


class Normalized(nn.Module):
    """A network behind a normalization by 0.5 and 0.5."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - 0.5) / 0.5)


def pooled_twin() -> nn.Module:
    """The network of LeGrad: its head reads the norm of the mean of all tokens, without a bias."""
    options = {"global_pool": "avg", "fc_norm": True, "final_norm": True}
    twin = timm_twin(
        "vit_base_patch16_clip_224",
        act_layer="gelu",
        norm_layer=nn.LayerNorm,
        pool_include_prefix=True,
        **options,
    )
    twin.head.bias.data.zero_()
    return twin


def from_captum() -> dict[str, np.ndarray]:
    from captum.attr import IntegratedGradients, Occlusion

    model, images = Normalized(timm_twin()), test_images()
    integrated = IntegratedGradients(model).attribute(
        images, baselines=0.0, target=TARGET, n_steps=32, method="gausslegendre"
    )
    side = -(-SIZE // 14)
    window = (3, side, side)
    occluded = Occlusion(model).attribute(
        images, window, strides=window, baselines=0.5, target=TARGET
    )
    return {"integrated_gradients": integrated, "occlusion": occluded[:, :1]}


def from_gradcam() -> dict[str, np.ndarray]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    twin, images = timm_twin(), test_images()
    side = SIZE // PATCH

    def to_image(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)

    cam = GradCAM(Normalized(twin), [twin.blocks[-1].norm1], reshape_transform=to_image)
    activations = cam.activations_and_grads(images)
    score = activations[:, TARGET].sum()
    score.backward()
    kept = cam.activations_and_grads
    arrays = [t[0].detach().numpy() for t in (kept.activations, kept.gradients)]
    targets = [ClassifierOutputTarget(TARGET)] * len(images)
    image = cam.get_cam_image(images, twin.blocks[-1].norm1, targets, *arrays, False)
    return {"gradcam_block": np.maximum(image, 0)}  # patches, before it is scaled and resized


def from_legrad() -> dict[str, np.ndarray]:
    from legrad import LeWrapper, wrapper
    from open_clip.transformer import VisionTransformer

    twin, state = pooled_twin(), pooled_twin().state_dict()
    tower = VisionTransformer(SIZE, PATCH, WIDTH, DEPTH, HEADS, 4.0, output_dim=len(twin.head.bias))
    made = block_state(state, OPEN_CLIP_BLOCK, "transformer.resblocks.{}")
    for old, new in {
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "fc_norm": "ln_post",
    }.items():
        made |= {
            f"{new}.{k}": state[f"{old}.{k}"] for k in ("weight", "bias") if f"{old}.{k}" in state
        }
    made |= {
        "class_embedding": state["cls_token"].flatten(),
        "positional_embedding": state["pos_embed"][0],
        "proj": state["head.weight"].T,
    }
    tower.load_state_dict(made)
    # CLIP scores by cosines of features, a classifier by its logits: not the method's matter.
    wrapper.F.normalize = lambda values, dim: values
    model = nn.Module()
    model.visual = tower
    model.encode_image = lambda images: tower(images)
    wrapped = LeWrapper(model.eval(), layer_index=0)
    prompt = torch.eye(len(twin.head.bias))[TARGET : TARGET + 1]
    maps = [
        wrapped.compute_legrad_clip(prompt, (image[None] - 0.5) / 0.5) for image in test_images()
    ]
    return {"legrad": torch.cat(maps)}


if __name__ == "__main__":
    part, path = sys.argv[1], Path(sys.argv[2])
    earlier = dict(np.load(path)) if path.is_file() else {}
    made = {"captum": from_captum, "gradcam": from_gradcam, "legrad": from_legrad}[part]()
    arrays = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in made.items()}
    np.savez_compressed(path, **(earlier | arrays))
