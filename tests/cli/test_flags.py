"""Flags are the fields of dataclasses: name, type, default and help are written once."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from tmt_geo.cli import app
from tmt_geo.cli.flags import Flags, described_arguments, with_flags
from tmt_geo.cli.model_options import ModelOptions
from tmt_geo.cli.train import NOT_FLAGS
from tmt_geo.cli.training_text import TrainingText
from tmt_geo.train import TrainConfig


@dataclass
class Options:
    """Some options.

    Args:
        size: How large
            it is, in ``metres``.
        slow: Slowly.
        loud: Loudly.
        kind: Of which kind.
        place: Where.
        hidden: Not shown.

    Raises:
        ValueError: Never.
    """

    size: int = 3
    slow: bool = False
    loud: bool | None = None
    kind: str | None = None
    place: Path = Path("here")
    hidden: int = 7


@pytest.fixture
def call():
    """Calls a command with these options, and returns them and what the help says."""

    def run(*arguments):
        seen = []

        @with_flags
        def command(name: str, options: Annotated[Options, Flags("Panel", skip=("hidden",))], other: int = 1) -> None:
            """A command."""
            seen.append((name, options, other))

        single = typer.Typer()
        single.command()(command)
        result = CliRunner().invoke(single, list(arguments))
        return result, seen

    return run


def test_the_command_gets_the_dataclass_built_from_the_flags(call):
    assert call("me")[1] == [("me", Options(), 1)]
    flags = ["me", "--size", "5", "--slow", "--no-loud", "--kind", "odd", "--place", "there", "--other", "2"]
    assert call(*flags)[1] == [("me", Options(5, True, False, "odd", Path("there")), 2)]
    assert call("me", "--loud")[1][0][1].loud is True


@pytest.mark.parametrize("flag", ["--hidden", "--no-slow"])
def test_there_is_no_flag_for_what_is_skipped_and_no_way_to_say_off_twice(call, flag):
    assert call("me", flag)[0].exit_code == 2


def test_the_help_is_the_docstring(call):
    shown = call("--help")[0].output
    assert "Panel" in shown and "How large it is, in metres." in " ".join(shown.split())
    assert "hidden" not in shown and "Raises" not in shown and "[default: 3]" in shown


@pytest.mark.parametrize(("options", "skipped"), [(TrainConfig, NOT_FLAGS), (ModelOptions, ()), (TrainingText, ())])
def test_train_has_a_flag_with_help_and_the_same_default_for_each_option(options, skipped):
    flags = {parameter.name: parameter for parameter in get_command(app).commands["train"].params}
    wanted = [field for field in fields(options) if field.name not in skipped]
    assert set(described_arguments(options)) == {field.name for field in fields(options)}
    for field in wanted:
        flag = flags[field.name]
        assert flag.help and flag.opts == [f"--{field.name.replace('_', '-')}"]
        assert flag.default == field.default
    assert not set(skipped) & set(flags)
