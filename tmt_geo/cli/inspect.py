"""``tmt-geo inspect``: what a model does with a text, layer by layer, as one page of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tmt_geo.apps.model_folder import load_run, max_context
from tmt_geo.apps.text_figures import text_sections, token_ids
from tmt_geo.cli.files import check_file
from tmt_geo.cli.options import Overwrite, Tokenizer
from tmt_geo.cli.screen import say
from tmt_geo.extras import check_extra


def inspect(
    text: Annotated[str, typer.Argument(help="The text to inspect.")],
    model: Annotated[Path, typer.Option(help="Folder of a trained TMT, as `train` and `demo` leave it.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("inspect.html"),
    position: Annotated[
        int, typer.Option(help="Token of which to show why the model predicts what comes next; -1: the last.")
    ] = -1,
    tokenizer: Tokenizer = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw what a model does with a text: mesh, prediction, clusters, neighbors, exits, decay, streams and anchors.

    The page opens in any browser without a network.
    """
    check_extra("the page of figures", "demo", "plotly", "networkx")
    check_file("out", out, overwrite)
    loaded, tokens = load_run(model, tokenizer)
    if not hasattr(loaded, "layer_graphs"):
        raise ValueError(f"'model' must be a TMT, whose layers have graphs (got {type(loaded).__name__})")
    ids = token_ids(text, tokens, max_context(loaded)).to(loaded.device)

    from tmt_geo.viz import figures_page

    sections = text_sections(loaded, tokens, ids, position)
    intro = f"{model}, {loaded.num_parameters():,} parameters, {loaded.config.num_hidden_layers} layers, "
    page = figures_page("What the layers do with a text", sections, intro=f"{intro}{ids.numel()} tokens.")
    out.write_text(page, encoding="utf-8")
    say(f"{ids.numel()} tokens, {len(sections)} figures, {len(page) / 1e6:.1f} MB. Open {out} in a browser.")
