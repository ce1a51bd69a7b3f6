"""A Space that compares models: change the table of models, and upload this folder as it is."""

from importlib import resources

from vitreous import load_model
from vitreous.app.page import build

DEMO = resources.files("vitreous") / "demo" / "pretrained"  # comes with the package, 16 classes
MODELS = {"the demo's small ViT": str(DEMO)}  # a name of timm or of the hub, a folder of weights

page = build({name: load_model(model) for name, model in MODELS.items()})

if __name__ == "__main__":
    page.launch()
