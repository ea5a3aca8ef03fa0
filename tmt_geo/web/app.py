"""The page: one text, one run, two tabs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr

from tmt_geo.apps.errors import input_errors, one_line
from tmt_geo.web.figures import draw, frames, plotly_file
from tmt_geo.web.guard import guards
from tmt_geo.web.model_cache import ModelCache, hint
from tmt_geo.web.streaming import stream_text

TITLE = "TemporalMesh Transformer"
INTRO = f"""# {TITLE}
Type a text, choose a run, and see what its layers do with it: which tokens attend to which, which leave early, and how
weights decay with distance. Or let the model continue the text."""
EXAMPLES = (
    "The bank by the river lent no money to the bank in the town, so the boats stayed at the bank of the river.",
    "A list is a mutable sequence. A tuple is an immutable sequence. A list can be changed, and a tuple cannot.",
    "The for statement is used to iterate over the elements of a sequence (such as a string, tuple or list).",
)
# Requests of one kind that run at a time, and how many may wait: on a few cores more would only slow each other down.
AT_ONCE = 4
WAITING = 32


def build_app(runs: Path) -> gr.Blocks:
    """Builds the page.

    Args:
        runs: Folder with the runs to choose from, as ``train`` and ``demo`` leave them; the list is read again
            whenever the page is opened.

    Returns:
        The app, for ``launch`` or to be mounted in another; :func:`serve` launches it.
    """
    models = ModelCache(runs)
    gr.set_static_paths([plotly_file()])
    with gr.Blocks(title=TITLE, analytics_enabled=False) as app:
        gr.Markdown(INTRO)
        notice = gr.Markdown(visible=False, elem_id="notice")
        run = gr.Dropdown(label="Run", elem_id="run")
        text = gr.Textbox(EXAMPLES[0], label="Text", lines=3, max_lines=10, elem_id="text")
        gr.Examples([[example] for example in EXAMPLES], text)
        with gr.Tab("Layers", id="layers"):
            draw_button = gr.Button("Draw the layers", variant="primary", elem_id="draw")
            drawn = gr.State({}, time_to_live=3600)
            figure = gr.Radio(show_label=False, visible=False, elem_id="figure")
            picture = gr.HTML(elem_id="picture")
        with gr.Tab("Continuation", id="continuation"):
            with gr.Row():
                length = gr.Slider(1, 200, 40, step=1, label="New tokens", elem_id="length")
                temperature = gr.Slider(
                    0, 2, 0.8, step=0.1, label="Temperature; 0: the likeliest", elem_id="temperature"
                )
            with gr.Row():
                start = gr.Button("Write", variant="primary", elem_id="write")
                stop = gr.Button("Stop", elem_id="stop")
            written = gr.Textbox(label="Written", lines=8, max_lines=20, interactive=False, elem_id="written")

        busy = {"concurrency_limit": AT_ONCE, "api_visibility": "private"}
        quick = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
        app.load(partial(choose, models), run, [run, notice], **quick)
        draw_button.click(partial(draw_layers, models), [run, text, figure], [drawn, figure, picture], **busy)
        figure.input(dict.get, [drawn, figure], picture, **quick)
        writing = start.click(partial(continue_on_page, models), [run, text, length, temperature], written, **busy)
        stop.click(None, cancels=writing)
    return app.queue(max_size=WAITING)


def serve(runs: Path, host: str = "127.0.0.1", port: int | None = None, *, inbrowser: bool = False) -> gr.Blocks:
    """Builds the page and serves it in the background, without a call to any other machine.

    Args:
        runs: Folder with the runs to choose from.
        host: Address to serve at; ``0.0.0.0`` lets other machines in.
        port: Port; default: the first free one from 7860.
        inbrowser: Open the page in the browser.

    Returns:
        The app, whose ``local_url`` is the page: ``block_thread`` waits for Ctrl-C, ``close`` ends it.

    Raises:
        OSError: If the port is taken.
    """
    app = build_app(runs)
    app.launch(
        server_name=host,
        server_port=port,
        inbrowser=inbrowser,
        prevent_thread_lock=True,
        quiet=True,
        # Neither a tunnel nor a second server of Node, whatever the environment says.
        share=False,
        ssr_mode=False,
        # The browser keeps no list of what was typed.
        run_history=False,
        enable_monitoring=False,
        state_session_capacity=100,
        footer_links=[],
        app_kwargs={"middleware": guards(host)},
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    )
    return app


def choose(models: ModelCache, chosen: str | None) -> tuple[gr.Dropdown, gr.Markdown]:
    """Returns the menu of the runs that there are now, and what to do where there are none."""
    names = models.names()
    menu = gr.Dropdown(choices=names, value=chosen if chosen in names else next(iter(names), None))
    notice = f"There is no model in `{models.folder}` yet; {hint()}. Then load this page again."
    return menu, gr.Markdown(notice, visible=not names)


def draw_layers(
    models: ModelCache, run: str | None, text: str, figure: str | None
) -> tuple[dict[str, str], gr.Radio, str]:
    """Returns the figures of a text by their titles, the menu of these, and the one to show: the same kind again."""
    with show_errors():
        sections = draw(*models.get(run), text)
        drawn = frames(sections, run or "", f"gradio_api/file={plotly_file()}")
    shown = figure if figure in drawn else next(iter(drawn))
    return drawn, gr.Radio(choices=list(drawn), value=shown, visible=len(drawn) > 1), drawn[shown]


def continue_on_page(models: ModelCache, run: str | None, text: str, length: int, temperature: float) -> Iterator[str]:
    """Yields a continuation as it grows; a different one each time unless the temperature is 0."""
    with show_errors():
        seed = secrets.randbelow(2**31)
        yield from stream_text(*models.get(run), text, max_new_tokens=length, temperature=temperature, seed=seed)


@contextmanager
def show_errors() -> Iterator[None]:
    """Shows errors of input as a message on the page; any other is a fault of the program and keeps its traceback."""
    try:
        yield
    except input_errors() as error:
        raise gr.Error(escape(one_line(error)), print_exception=False) from error
