import shutil

import pytest
from typer.testing import CliRunner

from tmt_geo.cli import app

LINE = "the {} fox of {} jumps over {} lazy dogs and writes a line of text .\n"
SIZES = {"d-model": 16, "n-layers": 2, "n-heads": 2, "max-seq-len": 32, "graph-k": 2, "window": 2, "memory-anchors": 2}
SMALL = [part for name, size in SIZES.items() for part in (f"--{name}", str(size))]


@pytest.fixture
def tmt():
    """Calls the command in this process and returns its result."""

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def refused(tmt):
    """Calls the command, demands one line of error and exit code 2, and returns the line."""

    def call(*arguments):
        result = tmt(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr.endswith("\n") and result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("tmt-geo: error: ")
        return result.stderr

    return call


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "foxes.txt"
    path.write_text("".join(LINE.format(i, i * i, 7 * i % 11) for i in range(150)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, text_file):
    """A run of four steps with one checkpoint, made by the command itself; copy it before changing it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = ["train", "--data", text_file, "--vocab-size", 300, "--out", out, "--steps", 4, "--save-every", 2]
    arguments += ["--batch-size", 2, "--log-every", 1, "--report-to", "none", *SMALL]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return out, result.stdout


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run."""
    return shutil.copytree(trained[0], tmp_path / "run")


@pytest.fixture
def unrecorded(run):
    """A copy of the trained run without the record of its files: what is wrong with them has to be found in them."""
    (run / "digests.json").unlink()
    return run


@pytest.fixture
def small():
    """Flags of a model small enough for a test."""
    return SMALL
