"""The typer application: the commands and what holds for all of them."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from tmt_geo.cli.compare import compare
from tmt_geo.cli.demo import demo
from tmt_geo.cli.errors import OneLineErrors
from tmt_geo.cli.evaluate import evaluate
from tmt_geo.cli.generate import generate
from tmt_geo.cli.inspect import inspect
from tmt_geo.cli.train import train
from tmt_geo.cli.web import web

app = typer.Typer(
    name="tmt-geo",
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, measure and use TemporalMesh language models. Start with: tmt-geo demo",
)
app.command(name="demo")(demo)
app.command(name="train")(train)
app.command(name="evaluate")(evaluate)
app.command(name="generate")(generate)
app.command(name="inspect")(inspect)
app.command(name="web")(web)
app.command(name="compare")(compare)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"tmt-geo {version('tmt_geo')}")
        except PackageNotFoundError:
            typer.echo("tmt-geo (not installed as a package, run from its source)")
        raise typer.Exit()


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Options of every command; ``OneLineErrors`` reads ``debug``."""


def main() -> None:
    """The console entry point."""
    # Read when torch starts its threads: waiting ones sleep. Spinning, as they do by default, they take the cores from
    # whatever else runs on a shared machine, this command's own work included.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app()
