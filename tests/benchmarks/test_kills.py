"""Trainings and comparisons that are killed end, resumed, as if they never had been."""

from benchmarks.kills.killing import try_jobs


def test_five_kills(tmp_path):
    said = []
    assert try_jobs(tmp_path, kills=5, report=said.append) == 0, said
    assert sum(int(line.split()[2]) for line in said) == 5
