"""What the commands print: progress lines, tables and the next commands to try."""

from __future__ import annotations

import os
from collections.abc import Sequence

import typer


def is_main_process() -> bool:
    """Whether this process prints and writes for all, where several train together."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str = "") -> None:
    """Prints a line, once where several processes train together."""
    if is_main_process():
        typer.echo(text)


def print_table(rows: Sequence[tuple[str, Sequence[str]]], names: Sequence[str] = ()) -> None:
    """Prints rows of a label and one cell a column; numbers stand flush right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=bool(names), box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for index, name in enumerate(["", *names] if names else [""] * (1 + len(rows[0][1]))):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for label, cells in rows:
        table.add_row(Text(label), *(Text(cell) for cell in cells))
    Console(highlight=False).print(table)


def say_next(commands: Sequence[tuple[str, str]]) -> None:
    """Prints commands to try next as ``(command, what it does)``."""
    say("\nTry next:")
    for command, purpose in commands:
        say(f"  {command}\n      {purpose}")
