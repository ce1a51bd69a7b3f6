"""Write a model for other tools: a timm or Hugging Face folder, or an ONNX graph.

ONNX graphs take images in [0, 1] (normalization is inside) and give logits, or logits and
relevance maps at once; each is compared with the model in onnxruntime before it is put in place.

Example:
    vitreous export runs/guided --format onnx-relevance --out guided.onnx
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vitreous.folders import claim_folder
from vitreous.ranges import PIXELS, above

if TYPE_CHECKING:
    from vitreous.models import Classifier


@dataclasses.dataclass(kw_only=True)
class Command:
    """Settings of `vitreous export`."""

    model: Annotated[str, tyro.conf.Positional]
    """A run folder, a folder of weights, a name of timm, hf:owner/name, torchvision:vit_b_16 or
    open_clip:ViT-B-32/TAG."""
    out: Path | None = None
    """Folder (timm) or file (ONNX) to write; by default the model's name with a suffix."""
    format: Literal["timm", "onnx", "onnx-relevance"] = "timm"
    """timm: config.json and model.safetensors, which timm loads as local-dir:FOLDER and which can
    be uploaded to the Hugging Face hub as they are; onnx: logits; onnx-relevance: logits and
    relevance maps in one graph."""
    prompts: tuple[str, ...] = ()
    """Sentences that become the classes of a CLIP or SigLIP model; the folder that is written
    classifies without its text tower, and goes to every other command as a model."""
    checkpoint: Path | None = None
    """Weights to load into the model instead of its own."""
    method: str = "gradient_attention"
    """Relevance method of onnx-relevance."""
    image_size: Annotated[int, PIXELS] | None = None
    """Side of the images in pixels; the model's own by default."""
    tolerance: Annotated[float, above(0)] = 1e-5
    """Largest difference of logits between onnxruntime and this model that is accepted, relative
    to the largest logit; maps may differ by 1e-4."""
    pretrained: bool = True
    """Whether a name of timm brings its weights."""
    overwrite: bool = False
    """Replace what is there although vitreous did not write it."""

    def run(self) -> None:
        """Write the model and say where it is."""
        from vitreous.models import load_model

        if self.format == "onnx-relevance":
            from vitreous.attribution import METHODS

            METHODS[self.method]  # an unknown name is refused before the model is loaded
        classifier = load_model(
            self.model,
            checkpoint=self.checkpoint,
            image_size=self.image_size,
            pretrained=self.pretrained,
            prompts=self.prompts,
        )
        if self.format == "timm":
            self._timm(classifier)
        else:
            self._onnx(classifier)

    def _timm(self, classifier: Classifier) -> None:
        from vitreous.models import save_model

        folder = self.out or Path(f"{self._stem()}_timm")
        save_model(classifier, claim_folder(folder, "model", overwrite=self.overwrite))
        print(f"model: {folder}")
        print(f"load it with {loader(classifier, folder)}")

    def _onnx(self, classifier: Classifier) -> None:
        from vitreous.attribution.export import export_onnx

        relevance = self.format == "onnx-relevance"
        suffix = "_relevance" if relevance else ""
        path = self.out or Path(f"{self._stem()}{suffix}.onnx")
        check = export_onnx(
            classifier,
            path,
            relevance=relevance,
            method=self.method,
            tolerance=self.tolerance,
            overwrite=self.overwrite,
        )
        print(f"graph: {path}")
        print(f"largest difference of logits from this model in onnxruntime: {check.logits:.1e}")
        if check.relevance is not None:
            print(f"largest difference of relevance (in [0, 1]): {check.relevance:.1e}")

    def _stem(self) -> str:
        name = Path(self.model).name if Path(self.model).exists() else self.model
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def loader(classifier: Classifier, folder: Path) -> str:
    """How the folder of a model is loaded, by the library that it came from where that can."""
    from vitreous.models.kernel import from_transformers
    from vitreous.models.libraries import architecture_of, library_of

    if from_transformers(classifier.net):
        return f'transformers.{type(classifier.net).__name__}.from_pretrained("{folder}")'
    architecture = classifier.architecture or architecture_of(classifier.net)
    if architecture is not None and library_of(architecture["architecture"]) is None:
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    return f'vitreous.load_model("{folder}")'
