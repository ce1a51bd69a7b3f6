"""What the page shows for what a visitor has set: answers, maps and messages as its components."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Annotated, Any

from PIL import Image
from torch import Tensor

from vitreous.app.analysis import ModelView, PerturbationChoice, analyse
from vitreous.app.examples import example_images
from vitreous.app.uploads import open_upload
from vitreous.config import check_ranges
from vitreous.data.images import to_tensor, to_uint8
from vitreous.errors import ImageError, VitreousError
from vitreous.models import Classifier
from vitreous.ranges import at_least

AMPLIFIED = "−ε to +ε as black to white"
PREVIEW = 360


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the visitor has set, in the order of the page's inputs."""

    file: str | None
    example: int
    chosen: Sequence[str]
    methods: Sequence[str]
    angle: Annotated[float, at_least(0, at_most=360)]
    epsilon: Annotated[float, at_least(0, at_most=255)]
    steps: Annotated[int, at_least(1, at_most=1000)]
    target: Mapping[str, int]

    def __post_init__(self) -> None:
        """Refuse what no page of ours sends; anyone may call the page's address."""
        numbers = (self.example, self.angle, self.epsilon, self.steps)
        right = (
            isinstance(self.file, str | None)
            and all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
            and all(_are_texts(names) for names in (self.chosen, self.methods))
            and isinstance(self.target, dict)
            and all(isinstance(v, int) for v in self.target.values())
        )
        if not right:
            raise VitreousError("this call is not one that the page makes")
        check_ranges(self)


def preview_of(file: str | None) -> str:
    """A small figure of an upload as HTML; empty where there is none or it cannot be read."""
    if not file:
        return ""
    try:
        image = open_upload(file)
    except ImageError:
        return ""  # the message says why
    size = f"{image.width} × {image.height} pixels"
    image.thumbnail((PREVIEW, PREVIEW))
    return figure(to_tensor(image), size, "The uploaded picture")


def same_class(models: Mapping[str, Classifier], chosen: str, number: int) -> dict[str, int]:
    """The class of one model in all models: by its words; left out where a model has no such."""
    words = models[chosen].class_name(number)
    targets = {
        name: next((i for i in range(model.num_classes) if model.class_name(i) == words), None)
        for name, model in models.items()
    }
    return {name: value for name, value in targets.items() if value is not None} | {chosen: number}


def _are_texts(names: object) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)


def fill_outputs(
    gradio: Any, models: Mapping[str, Classifier], given: Sequence[Any]
) -> list[object]:
    """Fill all outputs; an image that cannot be used empties them and says why."""
    try:
        values = Inputs(*given)
        image = _image(values)
        perturbation = PerturbationChoice(values.angle, values.epsilon / 255, int(values.steps))
        views = {
            name: analyse(model, image, values.methods, values.target.get(name), perturbation)
            for name, model in models.items()
            if name in values.chosen
        }
    except (ImageError, VitreousError) as error:
        hidden = [gradio.Column(visible=False), "", None, ""]
        return [f"**{error}**", *(part for _ in models for part in hidden)]
    shown: list[object] = [_message(values)]
    for name in models:
        shown += _show(gradio, name, models[name], views.get(name), values)
    return shown


def _image(values: Inputs) -> Image.Image:
    if values.file:
        return open_upload(values.file)
    images = example_images()
    return Image.fromarray(images[int(values.example) % len(images)][0])


def _message(values: Inputs) -> str:
    if not values.chosen:
        return "**Choose a model.**"
    return "" if values.methods else "**Choose a method to see a map.**"


def _show(
    gradio: Any, name: str, model: Classifier, view: ModelView | None, values: Inputs
) -> list[object]:
    if view is None:
        return [gradio.Column(visible=False), "", None, ""]
    label = {f"{text} [{index}]": value for index, text, value in view.top}
    explained = model.class_name(view.target)
    images = [figure(view.image, _caption(values), f"The picture, {_caption(values)}")]
    if view.difference is not None:
        text = f"What the attack added, {AMPLIFIED}"
        images.append(figure(view.difference, text, f"{text}; gray where nothing"))
    for method, overlaid in view.maps.items():
        words = method.replace("_", " ")
        images.append(figure(overlaid, words, f"Relevance for {explained} by {words}"))
    maps = f'<div class="maps">{"".join(images)}</div>'
    return [gradio.Column(visible=True), _status(name, model, view, values), label, maps]


def figure(image: Tensor, caption: str, alt: str) -> str:
    """An image (3, H, W) with its caption as HTML, its bytes inside, nothing on the disk."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(buffer, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><img src="{uri}" alt="{escape(alt, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _caption(values: Inputs) -> str:
    parts = [f"turned {values.angle:g}°"] if values.angle else []
    parts += [f"attacked, ε {values.epsilon:g}/255"] if values.epsilon else []
    return ", ".join(parts) or "as it is"


def _status(name: str, model: Classifier, view: ModelView, values: Inputs) -> str:
    text, value = view.unperturbed
    lines = [f"### {name}", f"Explained: **{model.class_name(view.target)}**."]
    if values.epsilon:
        answer, now = view.top[0][1], view.top[0][2]
        held = "the answer holds" if answer == text else "the answer changes"
        lines.append(f"Attack: {text} {value:.0%} → {answer} {now:.0%}; {held}.")
    lines += [f"Note: {note}." for note in view.notes]
    return "\n\n".join(lines)
