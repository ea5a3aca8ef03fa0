"""Commands that compute take the number of CPU threads."""

import pytest
import torch


@pytest.fixture
def chosen(monkeypatch):
    """What PyTorch was set to."""
    calls = []
    monkeypatch.setattr(torch, "set_num_threads", calls.append)
    return calls


@pytest.mark.parametrize("command", [["evaluate"], ["generate"]])
def test_the_threads_are_what_was_asked_for(tmt, run, chosen, command):
    prompt = ["the", "--max-new-tokens", 2] if command == ["generate"] else []
    assert tmt(*command, run, *prompt).exit_code == 0
    assert chosen == []
    assert tmt(*command, run, *prompt, "--threads", 1).exit_code == 0
    assert chosen == [1]


@pytest.mark.parametrize("command", ["evaluate", "generate", "train", "demo"])
def test_no_threads_are_one_line(refused, run, command):
    arguments = {"evaluate": [run], "generate": [run, "the"]}.get(command, [])
    assert "--threads" in refused(command, *arguments, "--threads", 0)
