"""The page: pictures, models and methods in; answers and maps side by side out."""

from __future__ import annotations

import atexit
import base64
import dataclasses
import functools
import io
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image
from torch import Tensor

from vitreous.app.analysis import Perturbation, View, analyse
from vitreous.app.examples import example_images
from vitreous.app.gate import Gate
from vitreous.app.uploads import LARGEST_FILE, open_upload
from vitreous.attribution import METHODS
from vitreous.data.images import to_uint8
from vitreous.errors import ImageError, VitreousError, require
from vitreous.models import Classifier

CACHE_SECONDS = 600
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
INTRODUCTION = (
    "# What do these models look at?\n"
    "Drop a picture, or take an example. Click a class to explain it; turn the picture, attack "
    "it, and watch answer and map change. Nothing leaves this machine."
)
CSS = """
.gradio-container {max-width: 1240px !important; margin: 0 auto}
footer {display: none !important}
.maps {display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px}
.maps figure {margin: 0}
.maps img {width: 100%; image-rendering: auto; border-radius: 8px}
.maps figcaption {font-size: 13px; opacity: .75; margin-top: 3px}
#message p {font-size: 17px}
#examples .grid-container {grid-template-columns: repeat(3, minmax(0, 1fr)) !important}
"""


@dataclasses.dataclass(frozen=True)
class Panel:
    """The components of one model."""

    name: str
    column: Any
    status: Any
    label: Any
    maps: Any

    def outputs(self) -> list[Any]:
        """In the order in which `_show` fills them."""
        return [self.column, self.status, self.label, self.maps]


def build(models: Mapping[str, Classifier]) -> Any:
    """Build the page (a `gradio.Blocks`) that compares models.

    Args:
        models: Name → model, one to six.

    Raises:
        VitreousError: If the extra `app` is not installed, or the number of models is wrong.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # it keeps 10,000 otherwise
    if "GRADIO_TEMP_DIR" not in os.environ:
        uploads = tempfile.mkdtemp(prefix="vitreous-app-")
        os.environ["GRADIO_TEMP_DIR"] = uploads
        atexit.register(shutil.rmtree, uploads, ignore_errors=True)
    gradio = require("gradio", "app")
    if not 1 <= len(models) <= 6:
        raise VitreousError(f"the page shows one to six models, found {len(models)}")
    with gradio.Blocks(
        title="Vitreous",
        analytics_enabled=False,
        delete_cache=(CACHE_SECONDS, CACHE_SECONDS),
    ) as page:
        gradio.Markdown(INTRODUCTION)
        inputs, examples = _inputs(gradio, list(models))
        message = gradio.Markdown(elem_id="message")
        with gradio.Row():
            panels = [_panel(gradio, name) for name in models]
        _connect(gradio, page, models, inputs, examples, message, panels)
    return page


def _inputs(gradio: Any, names: Sequence[str]) -> tuple[dict[str, Any], Any]:
    limit = f"at most {LARGEST_FILE >> 20} MB"
    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            file = gradio.File(label=f"Picture ({limit})", type="filepath", height=130)
            gradio.Markdown("Or an example, drawn by this program:")
            examples = gradio.Gallery(
                example_images(),
                show_label=False,
                label="Examples",
                columns=3,
                height=250,
                allow_preview=False,
                object_fit="contain",
                interactive=False,
                elem_id="examples",
            )
        with gradio.Column(scale=1, min_width=260):
            chosen = gradio.CheckboxGroup(list(names), value=list(names), label="Models")
            methods = gradio.CheckboxGroup(
                [(m.replace("_", " "), m) for m in METHODS],
                value=["gradient_attention"],
                label="Relevance methods",
            )
        with gradio.Column(scale=1, min_width=260):
            angle = gradio.Slider(0, 345, 0, step=15, label="Turn (degrees)")
            epsilon = gradio.Slider(0, 16, 0, step=0.5, label="Attack: ε in 1/255 (L∞ PGD)")
            steps = gradio.Slider(1, 50, 10, step=1, label="Steps of the attack")
    example, target = gradio.State(0), gradio.State({})
    inputs = {
        "file": file,
        "example": example,
        "chosen": chosen,
        "methods": methods,
        "angle": angle,
        "epsilon": epsilon,
        "steps": steps,
        "target": target,
    }
    return inputs, examples


def _panel(gradio: Any, name: str) -> Panel:
    with gradio.Column(min_width=280, visible=False) as column:
        status = gradio.Markdown()
        label = gradio.Label(num_top_classes=5, label="Top five: click a class to explain it")
        maps = gradio.HTML()
    return Panel(name, column, status, label, maps)


def _connect(
    gradio: Any,
    page: Any,
    models: Mapping[str, Classifier],
    inputs: dict[str, Any],
    examples: Any,
    message: Any,
    panels: Sequence[Panel],
) -> None:
    compute = functools.partial(_compute, gradio, models)
    outputs = [message, *(part for panel in panels for part in panel.outputs())]
    shared: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1}
    listed = [inputs[f.name] for f in dataclasses.fields(Inputs)]

    def show(*values: Any) -> list[Any]:
        return compute(Inputs(*values))

    def pick_example(event: Any) -> tuple[None, int, dict[str, int]]:
        return None, int(event.index), {}

    def forget() -> dict[str, int]:
        return {}

    changes = [inputs[n].release for n in ("angle", "epsilon", "steps")]
    changes += [inputs[n].change for n in ("chosen", "methods")]
    gradio.on(changes, show, listed, outputs, api_name="explain", **shared)
    for event in (inputs["file"].upload, inputs["file"].clear):
        event(forget, None, inputs["target"], api_visibility="private").then(
            show, listed, outputs, api_visibility="private", **shared
        )
    picked = [inputs["file"], inputs["example"], inputs["target"]]
    pick_example.__annotations__["event"] = gradio.SelectData
    page.load(show, listed, outputs, api_visibility="private", **shared)
    examples.select(pick_example, None, picked, api_visibility="private").then(
        show, listed, outputs, api_visibility="private", **shared
    )
    for panel in panels:
        choose = _chooser(gradio, panel.name)
        panel.label.select(
            choose, inputs["target"], inputs["target"], api_visibility="private"
        ).then(show, listed, outputs, api_visibility="private", **shared)


def _chooser(gradio: Any, name: str) -> Any:
    """Make the handler of a click on a class; gradio passes the event where it is annotated."""

    def choose(target: dict[str, int], event: Any) -> dict[str, int]:
        found = re.search(r"\[(\d+)\]$", str(event.value))
        return {**target, name: int(found[1])} if found else target

    choose.__annotations__["event"] = gradio.SelectData
    return choose


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the visitor has set, in the order of the page's inputs."""

    file: str | None
    example: int
    chosen: Sequence[str]
    methods: Sequence[str]
    angle: float
    epsilon: float
    steps: int
    target: Mapping[str, int]


def _compute(gradio: Any, models: Mapping[str, Classifier], values: Inputs) -> list[Any]:
    """Fill all outputs; a picture that cannot be used empties them and says why."""
    try:
        image = _image(values)
        disturbance = Perturbation(values.angle, values.epsilon / 255, int(values.steps))
        views = {
            name: analyse(
                model, image, values.methods, (values.target or {}).get(name), disturbance
            )
            for name, model in models.items()
            if name in values.chosen
        }
    except (ImageError, VitreousError) as error:
        hidden = [gradio.Column(visible=False), "", None, ""]
        return [f"**{error}**", *(part for _ in models for part in hidden)]
    shown: list[Any] = [_message(values)]
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
    gradio: Any, name: str, model: Classifier, view: View | None, values: Inputs
) -> list[Any]:
    if view is None:
        return [gradio.Column(visible=False), "", None, ""]
    label = {f"{text} [{index}]": value for index, text, value in view.top}
    explained = model.class_name(view.target)
    images = [figure(view.image, _caption(values), f"The picture, {_caption(values)}")]
    for method, one in view.maps.items():
        words = method.replace("_", " ")
        images.append(figure(one, words, f"Relevance for {explained} by {words}"))
    maps = f'<div class="maps">{"".join(images)}</div>'
    return [gradio.Column(visible=True), _status(name, model, view, values), label, maps]


def figure(image: Tensor, caption: str, alt: str) -> str:
    """A picture (3, H, W) with its caption as HTML, its bytes inside, nothing on the disk."""
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


def _status(name: str, model: Classifier, view: View, values: Inputs) -> str:
    text, value = view.undisturbed
    lines = [f"### {name}", f"Explained: **{model.class_name(view.target)}**."]
    if values.epsilon:
        answer, now = view.top[0][1], view.top[0][2]
        held = "the answer holds" if answer == text else "the answer changes"
        lines.append(f"Attack: {text} {value:.0%} → {answer} {now:.0%}; {held}.")
    lines += [f"Note: {note}." for note in view.notes]
    return "\n\n".join(lines)


def launch(page: Any, *, host: str = "127.0.0.1", port: int | None = None, **options: Any) -> Any:
    """Serve the page; on the loopback only unless another address is given."""
    gradio = require("gradio", "app")
    theme = gradio.themes.Soft(primary_hue="teal", font=FONT, font_mono=MONO)
    middleware = require("starlette.middleware", "app").Middleware(Gate, host=host)
    page.queue(max_size=64, default_concurrency_limit=4)
    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        max_file_size=LARGEST_FILE,
        theme=theme,
        css=CSS,
        ssr_mode=False,
        footer_links=[],
        enable_monitoring=False,
        app_kwargs={"middleware": [middleware]},
        state_session_capacity=200,
        quiet=True,
        **options,
    )
