"""The one place that turns an error into a line for the user."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperGroup

from tmt_geo.apps.errors import input_errors, one_line

UsageError: Any = typer.BadParameter.__base__  # of typer's own click or, in older ones, of click
# Python names an argument where the command has a flag by another name.
FLAGS = {
    "source": "--data",
    "texts": "--data",
    "rows": "--row",
    "seeds": "--seed",
    "problems": "--problem",
    "config_name": "--data-config",
    "name_or_dir": "--tokenizer",
    "hidden_size": "--d-model",
    "num_hidden_layers": "--n-layers",
    "num_attention_heads": "--n-heads",
    "max_position_embeddings": "--max-seq-len",
}


class OneLineErrors(TyperGroup):
    """Commands whose known errors end as one line on stderr and exit code 2.

    Anything else is a fault of the program and keeps its traceback; ``--debug`` shows that of known errors too.
    """

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except (UsageError, *input_errors()) as error:
            if ctx.params.get("debug"):
                raise
            command = self.commands.get(ctx.invoked_subcommand or "")
            message = one_line(error.format_message() if isinstance(error, UsageError) else error)
            typer.echo(f"tmt-geo: error: {as_flag(message, command)}", err=True)
            raise typer.Exit(2) from None


def as_flag(message: str, command: Any) -> str:
    """Lets a message that begins with the name of an argument begin with the flag of the command instead."""
    named = re.match(r"'(\w+)'", message)
    if named is None or command is None:
        return message
    name = named[1]
    options = [parameter.opts[0] for parameter in command.params]
    flags = {option[2:].replace("-", "_"): option for option in options if option.startswith("--")}
    flag = flags.get(name, FLAGS.get(name))
    return message if flag is None or flag not in flags.values() else flag + message[named.end() :]
