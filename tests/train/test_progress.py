"""What a run prints: one line a report, that anybody can read."""

import re

import pytest
from transformers.trainer_callback import TrainerState

from tmt_geo.train import train_model
from tmt_geo.train.progress import ReportPrinter


@pytest.fixture
def printed(capsys):
    """The lines for some logged rows at a step of 1,000."""

    def lines(*rows, step=20, **state):
        printer, state = ReportPrinter(), TrainerState(max_steps=1000, is_world_process_zero=True, **state)
        printer.on_train_begin(None, state, None)
        state.global_step = step
        for row in rows:
            printer.on_log(None, state, None, logs=row)
        return capsys.readouterr().out.splitlines()

    return lines


def test_a_report_says_step_loss_perplexity_speed_and_what_is_left(printed, monkeypatch):
    clock = iter([0.0, 40.0])
    monkeypatch.setattr("tmt_geo.train.progress.time.perf_counter", lambda: next(clock))
    (line,) = printed({"loss": 2.0, "grad_norm": 1.0, "tokens_per_second": 2345.6})
    assert line.split() == [
        "step",
        "20/1,000",
        "loss",
        "2.000",
        "perplexity",
        "7.4",
        "2,346",
        "tokens/s",
        "0:32:40",
        "left",
    ]


def test_a_resumed_run_counts_its_own_steps(printed, monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("tmt_geo.train.progress.time.perf_counter", lambda: next(clock))
    (line,) = printed({"loss": 2.0}, step=900, global_step=800)
    assert line.endswith(" 0:00:10 left")


def test_an_evaluation_has_its_own_line_and_other_rows_have_none(printed):
    (line,) = printed({"eval_loss": 1.0, "eval_runtime": 3.0}, {"train_runtime": 3.0, "train_loss": 1.0})
    assert line.split() == ["step", "20/1,000", "validation", "1.000", "perplexity", "2.7"]


@pytest.mark.parametrize(("loss", "shown"), [(float("nan"), "nan"), (1e4, "inf")])
def test_a_loss_that_is_no_number_is_shown(printed, loss, shown):
    (line,) = printed({"loss": loss})
    assert f"perplexity       {shown}" in line


def test_a_run_prints_these_lines_and_nothing_else(llama, blocks, options, capsys):
    train_model(llama(), None, blocks(8), blocks(2), options(progress=True, eval_every=3))
    lines = capsys.readouterr().out.splitlines()
    assert [re.match(r"step (\d)/6 ", line)[1] for line in lines] == ["2", "3", "4", "6", "6"]
    train_model(llama(), None, blocks(8), blocks(2), options(progress=False, overwrite=True))
    assert capsys.readouterr().out == ""
