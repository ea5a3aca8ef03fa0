"""Tampered runs, bad command lines and illegal calls end in one line that names what is wrong."""

import os

import pytest
import torch

from benchmarks.hostile.calls import legal_calls, try_calls
from benchmarks.hostile.lines import bad_lines, try_lines
from benchmarks.hostile.resumes import try_resumes
from benchmarks.hostile.runs import train_run, try_folders
from benchmarks.hostile.trial import call_here

LONG = pytest.mark.skipif(os.environ.get("TMT_FULL_TEST") != "1", reason="takes minutes; set TMT_FULL_TEST=1 for it")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return train_run(tmp_path_factory.mktemp("hostile"), call_here)


def faults(trials):
    return [f"{trial.name}: {trial.fault}" for trial in trials if trial.fault]


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=LONG)])
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


@pytest.mark.parametrize("count", [300, pytest.param(2500, marks=LONG)])
def test_illegal_calls(count):
    assert not faults(try_calls(count, seed=1))


def test_legal_calls_are_taken():
    for call in legal_calls():
        with torch.no_grad():
            call.function(**call.arguments)
