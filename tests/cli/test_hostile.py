"""Tampered runs, bad command lines and illegal calls end in one line that names what is wrong."""

import os

import pytest

from benchmarks.hostile.calls import illegal_calls, try_call
from benchmarks.hostile.lines import bad_lines, try_lines
from benchmarks.hostile.resumes import try_resumes
from benchmarks.hostile.runs import train_run, try_folders
from benchmarks.hostile.trial import call_here

LONG = pytest.mark.skipif(os.environ.get("TMT_FULL_TEST") != "1", reason="takes minutes; set TMT_FULL_TEST=1 for it")
# No illegal call of these ends otherwise than refused by name. `python -m benchmarks.hostile` counts the others.
CLEAN = (
    "TemporalDecay",
    "ExitGate",
    "DualStreamFFN",
    "MemoryAnchors",
    "MeshIndex",
    "QuarticTransformer",
    "RelationalTransformer",
    "MultiStreamTransformer",
    "TMTConfig",
    "QuarticConfig",
    "AddMesh()",
    "QuarticTransformer()",
    "RelationalTransformer()",
    "MultiStreamTransformer()",
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return train_run(tmp_path_factory.mktemp("hostile"), call_here)


def faults(trials):
    return [f"{trial.name}: {trial.fault}" for trial in trials if trial.fault]


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=LONG)])
def test_tampered_folders(tiny, tmp_path, count):
    trials = list(try_folders(tiny, tmp_path / "copy", call_here, count, seed=1))
    assert not faults(trials) and len(trials) == count
    assert {trial.ended for trial in trials} == {"the same", "refused"}


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=LONG)])
def test_tampered_resumes(tiny, tmp_path, count):
    trials = list(try_resumes(tiny, tmp_path / "copy", call_here, count, seed=1))
    assert not faults(trials) and len(trials) == count


@pytest.mark.parametrize("count", [50, pytest.param(250, marks=LONG)])
def test_bad_lines(tiny, tmp_path, count):
    assert not faults(try_lines(tiny, tmp_path, call_here, count, seed=1))


def test_there_are_enough_lines():
    assert len(bad_lines()) > 250


@pytest.mark.parametrize("name", CLEAN)
def test_illegal_calls(name):
    trials = [try_call(call, change) for call, change in illegal_calls() if call.name == name]
    assert trials and not [trial for trial in trials if trial.fault not in (None, "accepted")]
