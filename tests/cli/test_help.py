import subprocess
import sys

import pytest


def test_help_needs_no_heavy_library():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tmt_geo.cli import app\n"
        "for command in ([], ['train'], ['evaluate'], ['generate'], ['demo'], ['compare']):\n"
        "    assert CliRunner().invoke(app, [*command, '--help']).exit_code == 0, command\n"
        "heavy = {'torch', 'transformers', 'datasets', 'plotly', 'torch_geometric'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_python_dash_m_is_the_command():
    result = subprocess.run([sys.executable, "-m", "tmt_geo", "train", "--graph-q"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("tmt-geo: error: ") and "--graph-q" in result.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "generate", "demo", "compare"])
def test_every_command_is_listed(tmt, command):
    assert command in tmt("--help").stdout


def test_version(tmt):
    assert tmt("--version").stdout.startswith("tmt-geo ")
