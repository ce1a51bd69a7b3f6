"""The page: images, models and methods in; answers and maps side by side out."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vitreous.app.answers import Inputs, fill_outputs, preview_of, same_class
from vitreous.app.examples import example_images
from vitreous.app.gate import Gate
from vitreous.app.log import OneLine, quiet_blocks
from vitreous.app.uploads import LARGEST_FILE
from vitreous.attribution import METHODS
from vitreous.errors import VitreousError, require
from vitreous.models import Classifier

CACHE_SECONDS = 600
LONGEST_QUEUE = 64
SHARED = (".gradio.live",)
API = """Answers and maps of the chosen models for one picture.

file: an image, or nothing for an example. chosen: names of models. methods: relevance methods.
angle: degrees. epsilon: radius of the attack in 1/255, 0 for none. steps: of the attack. Returns a
message (empty where all is well), then for each model of the page, chosen or not (then empty): a
text, the five most probable classes with their probabilities, and the maps as HTML with the images
inside. A call without gradio's client gets each model's visibility before its text.
"""
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
INTRODUCTION = (
    "# What do these models look at?\n"
    "Drop a picture, or take an example. Click a class to explain it; turn the picture, attack "
    "it, and watch answer and map change. Pictures go to the machine that runs this page, and are "
    "deleted there after ten minutes."
)
CSS = """
.gradio-container {max-width: 1240px !important; margin: 0 auto}
footer {display: none !important}
.maps {display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px}
.maps figure {margin: 0}
.maps img, .preview img {width: 100%; image-rendering: auto; border-radius: 8px}
.preview figure {margin: 0; max-width: 180px}
.maps figcaption, .preview figcaption {font-size: 13px; opacity: .75; margin-top: 3px}
#message p {font-size: 17px}
#examples .grid-container {grid-template-columns: repeat(3, minmax(0, 1fr)) !important}
"""

Gradio = Any
"""The library, which is an extra: what it makes has no types here."""
Component = Any


@dataclasses.dataclass(frozen=True)
class Panel:
    """The components of one model."""

    name: str
    column: Component
    status: Component
    label: Component
    maps: Component

    def outputs(self) -> list[Component]:
        """In the order in which they are filled."""
        return [self.column, self.status, self.label, self.maps]


def build(models: Mapping[str, Classifier]) -> Component:
    """Build the page (a `gradio.Blocks`) that compares models, with its theme, limits and queue.

    `build(models).launch()` serves it as it stands, for example on a Space; `launch` here refuses
    calls of other sites too.

    Args:
        models: Name → model, one to six.

    Raises:
        VitreousError: If the extra `app` is not installed, or the number of models is wrong.
    """
    if not 1 <= len(models) <= 6:
        raise VitreousError(f"the page shows one to six models, found {len(models)}")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # it keeps 10,000 otherwise
    if "GRADIO_TEMP_DIR" not in os.environ:
        uploads = tempfile.mkdtemp(prefix="vitreous-app-")
        os.environ["GRADIO_TEMP_DIR"] = uploads
        atexit.register(shutil.rmtree, uploads, ignore_errors=True)
    return _inside_a_loop(functools.partial(_page, require("gradio", "app"), models))


def _inside_a_loop(make: Callable[[], Component]) -> Component:
    """Call with an event loop running: without one gradio makes several, and closes none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(_called(make))
        finally:
            loop.close()
    return make()


async def _called(make: Callable[[], Component]) -> Component:
    """What a function makes, made by the running loop."""
    return make()


def _page(gradio: Gradio, models: Mapping[str, Classifier]) -> Component:
    """Lay the page out and connect its parts."""
    with quiet_blocks()(
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
    page.queue(max_size=LONGEST_QUEUE, default_concurrency_limit=4)
    # gradio takes the looks of a page where it is launched: whoever launches this one gets them.
    page.launch = functools.partial(page.launch, **_looks(gradio))
    return page


def _looks(gradio: Gradio) -> dict[str, Component]:
    """What gradio's `launch` is told of every page; labels are darker than the theme's own."""
    theme = gradio.themes.Soft(primary_hue="teal", font=FONT, font_mono=MONO)
    return {
        "theme": theme.set(
            background_fill_primary="*neutral_50",  # the theme's; `set` forgets it
            block_title_text_color="*primary_800",
            block_label_text_color="*primary_800",
            checkbox_border_color="*neutral_400",  # boxes and fields are seen on white
            checkbox_border_width="1px",
            input_border_color="*neutral_300",
            input_border_width="1px",
            checkbox_label_background_fill_selected="*primary_700",
            checkbox_label_background_fill_selected_dark="*primary_700",
        ),
        "css": CSS,
        "max_file_size": LARGEST_FILE,
        "ssr_mode": False,
        "footer_links": [],
        "enable_monitoring": False,
    }


def _inputs(gradio: Gradio, names: Sequence[str]) -> tuple[dict[str, Component], Component]:
    """The components that a visitor sets, by the names of `Inputs`, and the gallery."""
    with gradio.Row():
        with gradio.Column(scale=1, min_width=260):
            limit = f"at most {LARGEST_FILE >> 20} MB"
            file = gradio.File(
                label=f"Picture ({limit})", type="filepath", file_types=["image"], height=180
            )
            preview = gradio.HTML(visible=False, elem_classes="preview")
            gradio.Markdown("Or an example, drawn by this program:")
            examples = _gallery(gradio)
        with gradio.Column(scale=1, min_width=260):
            chosen = gradio.CheckboxGroup(list(names), value=list(names), label="Models")
            methods = gradio.CheckboxGroup(
                [(m.replace("_", " "), m) for m in METHODS],
                value=["gradient_attention"],
                label="Relevance methods",
            )
        with gradio.Column(scale=1, min_width=260):
            sliders = _sliders(gradio)
    states = {"example": gradio.State(0), "target": gradio.State({})}
    named = {"file": file, "preview": preview, "chosen": chosen, "methods": methods}
    return {**named, **sliders, **states}, examples


def _gallery(gradio: Gradio) -> Component:
    return gradio.Gallery(
        example_images(),
        show_label=False,
        label="Examples",
        columns=3,
        height=250,
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        buttons=[],
        elem_id="examples",
    )


def _sliders(gradio: Gradio) -> dict[str, Component]:
    return {
        "angle": gradio.Slider(0, 345, 0, step=15, label="Turn (degrees)"),
        "epsilon": gradio.Slider(0, 16, 0, step=0.5, label="Attack: ε in 1/255 (L∞ PGD)"),
        "steps": gradio.Slider(1, 50, 10, step=1, label="Steps of the attack"),
    }


def _panel(gradio: Gradio, name: str) -> Panel:
    with gradio.Column(min_width=280, visible=False) as column:
        status = gradio.Markdown()
        label = gradio.Label(num_top_classes=5, label="Top five: click a class to explain it")
        maps = gradio.HTML()
    return Panel(name, column, status, label, maps)


def _connect(
    gradio: Gradio,
    page: Component,
    models: Mapping[str, Classifier],
    inputs: dict[str, Component],
    examples: Component,
    message: Component,
    panels: Sequence[Panel],
) -> None:
    compute = functools.partial(fill_outputs, gradio, models)
    outputs = [message, *(part for panel in panels for part in panel.outputs())]
    shared = {"concurrency_id": "models", "concurrency_limit": 1}
    listed = [inputs[f.name] for f in dataclasses.fields(Inputs)]

    # A call by name finds its parameters by these.
    def show(
        file: object,
        example: object,
        chosen: object,
        methods: object,
        angle: object,
        epsilon: object,
        steps: object,
        target: object,
    ) -> list[object]:
        return compute((file, example, chosen, methods, angle, epsilon, steps, target))

    def then_show(event: Component) -> None:
        event.then(show, listed, outputs, api_visibility="private", **shared)

    changes = [inputs[n].release for n in ("angle", "epsilon", "steps")]
    changes += [inputs[n].change for n in ("chosen", "methods")]
    gradio.on(changes, show, listed, outputs, api_name="explain", api_description=API, **shared)
    page.load(show, listed, outputs, api_visibility="private", **shared)
    for event in _picks(gradio, models, inputs, examples, panels):
        then_show(event)


def _picks(
    gradio: Gradio,
    models: Mapping[str, Classifier],
    inputs: dict[str, Component],
    examples: Component,
    panels: Sequence[Panel],
) -> Iterator[Component]:
    """Connect what changes an input by itself: a file, an example, a click on a class."""

    def pick_example(event: Component) -> tuple[None, object, int, dict[str, int]]:
        return None, gradio.HTML(visible=False), int(event.index), {}

    def pick_file(file: str | None) -> tuple[object, dict[str, int]]:
        text = preview_of(file)
        return gradio.HTML(text, visible=bool(text)), {}

    target, file, preview = inputs["target"], inputs["file"], inputs["preview"]
    for event in (file.upload, file.clear):
        yield event(pick_file, file, [preview, target], api_visibility="private")
    pick_example.__annotations__["event"] = gradio.SelectData
    picked = [file, preview, inputs["example"], target]
    yield examples.select(pick_example, None, picked, api_visibility="private")
    for panel in panels:
        choose = _chooser(gradio, models, panel.name)
        yield panel.label.select(choose, target, target, api_visibility="private")


def _chooser(
    gradio: Gradio, models: Mapping[str, Classifier], name: str
) -> Callable[[dict[str, int], Component], dict[str, int]]:
    """Make the handler of a click on a class; gradio passes the event where it is annotated."""

    def choose(target: dict[str, int], event: Component) -> dict[str, int]:
        number = re.search(r"\[(\d+)\]$", str(event.value))
        return same_class(models, name, int(number[1])) if number else target

    choose.__annotations__["event"] = gradio.SelectData
    return choose


def launch(
    page: Component,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
    share: bool = False,
    **options: bool,
) -> Component:
    """Serve the page; on the loopback only unless another address is given.

    Args:
        page: Of `build`.
        host: Address to listen on.
        port: Port; gradio's choice where not given.
        allowed_hosts: Names besides its own by which the page may be called.
        share: Ask gradio for a public address too, which leads here through a machine of theirs.
        **options: Of gradio's `launch`.

    Returns:
        What gradio's `launch` returns: the application and its addresses.
    """
    middleware = require("starlette.middleware", "app").Middleware
    names = (*allowed_hosts, *(SHARED if share else ()))
    before = [middleware(Gate, host=host, allowed_hosts=names), middleware(OneLine)]
    return page.launch(
        server_name=host,
        server_port=port,
        share=share,
        app_kwargs={"middleware": before},
        state_session_capacity=200,
        quiet=True,
        **options,
    )
