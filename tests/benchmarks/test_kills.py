"""Trainings and comparisons that are killed end, resumed, as if they never had been."""

import os

import pytest

from benchmarks.kills.jobs import comparison, mesh_memory, train_command
from benchmarks.kills.killing import try_jobs

LONG = pytest.mark.skipif(os.environ.get("TMT_FULL_TEST") != "1", reason="takes minutes; set TMT_FULL_TEST=1 for it")


@pytest.mark.parametrize(
    ("kills", "jobs"),
    [(5, (train_command, mesh_memory)), pytest.param(10, (train_command, mesh_memory, comparison), marks=LONG)],
)
def test_kills(tmp_path, kills, jobs):
    said = []
    assert try_jobs(tmp_path, kills, jobs=jobs, report=said.append) == 0, said
    assert sum(int(line.split()[2]) for line in said) == kills
