import json
import sys

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Enough for one batch of eight blocks of 256 tokens."""
    out = tmp_path_factory.mktemp("corpus")
    for name, lines in (("train", 400), ("valid", 30), ("test", 30)):
        text = "".join(f"{name} {i} of {i * i} jumps over {7 * i % 11} lazy dogs .\n" for i in range(lines))
        (out / f"{name}.txt").write_text(text, encoding="utf-8")
    return out


def test_a_row_is_run_and_reported(tmt, folder, tmp_path):
    arguments = ["compare", "ablation", "--data", folder, "--row", "vanilla", "--seed", 42, "--steps", 1]
    arguments += ["--out", tmp_path / "out", "--work", tmp_path / "work", "--threads", 1]
    result = tmt(*arguments)
    assert result.exit_code == 0, result.output
    assert "ablation-1-steps, vanilla, seed 42: test word perplexity" in result.stdout
    done = json.loads((tmp_path / "out" / "ablation-1-steps" / "vanilla-42.json").read_text())
    assert f"| vanilla | {done['params']:,} |" in result.stdout and "| full | not run |" in result.stdout
    page = (tmp_path / "out" / "ablation-1-steps" / "figure.html").read_text()
    assert "word perplexity, test split" in page
    again = tmt(*arguments, "--report")
    assert again.exit_code == 0 and "seed 42" not in again.stdout and "| vanilla |" in again.stdout


def test_nothing_to_report_is_said(tmt, tmp_path):
    result = tmt("compare", "peers", "--report", "--out", tmp_path)
    assert result.exit_code == 1 and "no results in" in result.output


def test_without_plotly_it_refuses_before_it_runs(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    line = refused("compare", "ablation", "--out", tmp_path / "out", "--work", tmp_path / "work")
    assert 'pip install "tmt-geo[demo]" (got no plotly)' in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablatoin"], "push, scale, length, streams, code, options, depth, recipe, edges, recall"),
        (["ablation", "--jobs", "2"], "must be edges or recall for --problem, --jobs and --quick (got 'ablation')"),
        (["ablation", "--size", "huge"], "must be one of tiny, base"),
        (["ablation", "--row", "vanila", "--data", "embedded"], "--row must be among vanilla"),
        (["ablation", "--seed", "7", "--data", "embedded"], "--seed must be among 42, 1337, 2024"),
        (["ablation", "--data", "no/such/folder"], "--data does not exist"),
    ],
)
def test_what_does_not_exist_is_named(refused, tmp_path, arguments, message):
    assert message in refused("compare", *arguments, "--out", tmp_path / "out", "--work", tmp_path / "work")


@pytest.mark.parametrize(
    ("suites", "problem", "row", "score"),
    [("edges", "word-s3", "factored", "n = 16 "), ("recall", "passkey", "dense", "32 / 1 ")],
)
def test_problems_are_run_and_reported(tmt, tmp_path, suites, problem, row, score):
    pytest.importorskip("plotly")
    arguments = ["compare", suites, "--problem", problem, "--row", row, "--quick", "--out", tmp_path]
    result = tmt(*arguments)
    assert result.exit_code == 0, result.output
    assert f"{problem}, {row}, seed 0: {score}" in result.stdout and f"| {row} | " in result.stdout
    assert (tmp_path / "quick" / problem / f"{row}-0.json").exists()
    again = tmt(*arguments, "--report")
    assert again.exit_code == 0 and "seed 0" not in again.stdout
    assert "share of right answers" in (tmp_path / "quick" / problem / "figure.html").read_text()


def test_edges_need_no_plotly_to_run(tmt, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    arguments = ["--problem", "word-s3", "--row", "nodes, four layers", "--quick", "--out", tmp_path]
    assert tmt("compare", "edges", *arguments).exit_code == 0


def test_edges_that_do_not_exist_are_named(refused, tmt, tmp_path):
    line = refused("compare", "edges", "--problem", "word-s4", "--out", tmp_path)
    assert "--problem must be among word-s3" in line
    result = tmt("compare", "edges", "--report", "--out", tmp_path)
    assert result.exit_code == 1 and "no results in" in result.output


@pytest.mark.parametrize("option", [("--size", "base"), ("--data", "somewhere"), ("--steps", 5)])
def test_options_of_language_models_are_refused_for_problems(refused, tmp_path, option):
    assert f"{option[0]} is for suites of language models" in refused("compare", "recall", *option, "--out", tmp_path)
