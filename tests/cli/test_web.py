import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def served(monkeypatch):
    """What the command hands on to the page, which is not opened."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    import tmt_geo.web

    calls = []

    def serve(*arguments, **options):
        calls.append((arguments, options))
        return SimpleNamespace(local_url="http://127.0.0.1:7/", block_thread=lambda: calls.append("waits"))

    monkeypatch.setattr(tmt_geo.web, "serve", serve)
    return calls


def test_it_serves_this_machine_by_default(tmt, served):
    result = tmt("web")
    assert result.exit_code == 0, result.output
    (runs, host, port), options = served[0]
    assert (str(runs), host, port, options) == ("runs", "127.0.0.1", None, {"inbrowser": True})
    assert served[1] == "waits" and "http://127.0.0.1:7/" in result.stdout


def test_its_options_reach_the_page(tmt, served, tmp_path):
    assert tmt("web", "--runs", tmp_path, "--host", "0.0.0.0", "--port", 8123, "--no-open").exit_code == 0
    assert served[0] == ((tmp_path, "0.0.0.0", 8123), {"inbrowser": False})


def test_what_is_not_installed_is_one_line(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert 'pip install "tmt-geo[web]" (got no gradio)' in refused("web")


def test_a_file_is_no_folder_of_runs(refused, served, tmp_path):
    (tmp_path / "file").write_text("")
    assert "error: --runs must be a folder (got " in refused("web", "--runs", tmp_path / "file")


def test_a_port_out_of_range_is_one_line(refused):
    assert "--port" in refused("web", "--port", 70000)


def test_help_needs_no_gradio():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tmt_geo.cli import app\n"
        "assert CliRunner().invoke(app, ['web', '--help']).exit_code == 0\n"
        "assert not {'gradio', 'torch', 'plotly', 'tmt_geo.web'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
