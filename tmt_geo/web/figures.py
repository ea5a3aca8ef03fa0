"""What a model does with a text, as figures for the page."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tmt_geo.apps.model_folder import max_context
from tmt_geo.apps.text_figures import text_sections, token_ids
from tmt_geo.viz import Section
from tmt_geo.viz.page import page_html

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MAX_CHARACTERS = 4000
HEIGHT = 900  # pixels: the mesh, the tallest of the figures, with its headline


def check_text(text: str) -> str:
    """Returns the text, if it is not too long to be worth a tokenizer's time.

    Raises:
        ValueError: If it has more than ``MAX_CHARACTERS`` characters.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"'text' must have at most {MAX_CHARACTERS:,} characters (got {len(text):,})")
    return text


def draw(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: str) -> list[Section]:
    """Draws what a model does with a text.

    Several threads may draw with one model while others generate text with it.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        text: The text.

    Returns:
        The parts of a page, as :func:`tmt_geo.apps.text_figures.text_sections` draws them; for a model that is no TMT
        a single one that says why there is nothing to draw.

    Raises:
        ValueError: If the text is empty or too long, or a TMT was built without a mesh.
    """
    ids = token_ids(check_text(text), tokenizer, max_context(model)).to(model.device)
    if not hasattr(model, "layer_graphs"):
        kind = escape(type(model).__name__)
        notice = f"<p>This run is a {kind}: its layers build no graph to draw. It can continue the text.</p>"
        return [Section("No mesh", notice)]
    return text_sections(shared_copy(model), tokenizer, ids)


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a copy of a model that shares its weights and buffers.

    The figures are taken by hooks, which on the model itself would also see what other threads compute with it.
    """
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def frames(sections: Sequence[Section], title: str, library: str) -> dict[str, str]:
    """Returns sections as inline frames for a page, each a document of its own.

    Args:
        sections: The parts.
        title: Headline of each.
        library: Address of plotly.js.

    Returns:
        Title of the section to an ``<iframe>``. It may run the figures' scripts and save an image, and reaches
        nothing of the page around it.
    """
    script = f'<script src="{escape(library)}"></script>'
    found = {}
    for section in sections:
        parts = [section.html()] if isinstance(section.body, str) else [script, section.html()]
        found[section.title] = _frame(section.title, page_html(title, parts, figures=False))
    return found


def _frame(title: str, page: str) -> str:
    return (
        f'<iframe title="{escape(title)}" sandbox="allow-scripts allow-downloads" srcdoc="{escape(page)}" '
        f'style="width: 100%; height: {HEIGHT}px; border: 0"></iframe>'
    )


def plotly_file() -> Path:
    """Returns the plotly.js that comes with plotly, which fits the figures it makes."""
    from importlib.resources import files

    return Path(str(files("plotly") / "package_data" / "plotly.min.js"))
