import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import tmt_geo
from tmt_geo.cli import app

COMMANDS = sorted(get_command(app).commands)


def test_every_module_with_a_command_is_registered():
    """A command is the function that is named as its module."""
    paths = (Path(next(iter(tmt_geo.__path__))) / "cli").glob("*.py")
    named = {path.stem for path in paths for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef) and node.name == path.stem}  # fmt: skip
    assert sorted(named) == COMMANDS


def test_help_needs_no_heavy_library():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tmt_geo.cli import app\n"
        f"for command in [[], *([name] for name in {COMMANDS})]:\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0, command\n"
        "heavy = {'torch', 'transformers', 'datasets', 'plotly', 'gradio', 'torch_geometric'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_python_dash_m_is_the_command():
    result = subprocess.run([sys.executable, "-m", "tmt_geo", "train", "--graph-q"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tmt-geo: error: ") and "--graph-q" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed(tmt, command):
    assert re.search(rf"^\W*{command} +\w", tmt("--help").stdout, re.MULTILINE)


def test_version(tmt):
    assert tmt("--version").stdout.startswith("tmt-geo ")
