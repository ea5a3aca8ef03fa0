"""``tmt-geo web``: a local page on which to type a text and watch a model."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from tmt_geo.cli.screen import say
from tmt_geo.extras import check_extra


def web(
    runs: Annotated[Path, typer.Option(help="Folder of the runs to choose from.")] = Path("runs"),
    host: Annotated[str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default: the first free one from 7860.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Open a page on which to type a text, see what the layers do with it, and let a model continue it.

    Runs on this machine alone, without a network. Ctrl-C ends it.
    """
    check_extra("the page", "web", "gradio", "plotly", "networkx")
    _check_address(host, port)
    if runs.exists() and not runs.is_dir():
        raise ValueError(f"'runs' must be a folder (got {runs})")
    say("Loading takes a few seconds.")

    from tmt_geo.web import serve

    app = serve(runs, host, port, inbrowser=open_browser)
    say(f"The page is at {app.local_url} and shows the runs in {runs}. Ctrl-C ends it.")
    app.block_thread()


def _check_address(host: str, port: int | None) -> None:
    """Tells at once of an address that this machine cannot serve at."""
    try:
        socket.create_server((host, port or 0)).close()
    except (OSError, UnicodeError) as error:
        name = "port" if port and host in ("127.0.0.1", "localhost") else "host"
        raise ValueError(f"'{name}' must be an address to serve at: {error} (got {host}:{port or ''})") from error
