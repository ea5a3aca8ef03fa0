"""Caches beside a model of a suite: what is measured, where it is kept, and for models that were trained before."""

import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks.caches import add_caches
from tmt_geo.compare import LanguageRow, LanguageRun, run_suite, runner
from tmt_geo.compare.caches import CONTROLS, NEURAL, TRIED, measure_caches
from tmt_geo.compare.models import build_model
from tmt_geo.compare.results import load_shared
from tmt_geo.compare.side_tables import cache_table

COPY = {"copy_k": 4, "copy_dim": 4, "copy_memory": 64}


@pytest.fixture
def cached(suite):
    """A Llama with and without a copy head, with caches."""
    rows = (
        LanguageRow("llama", family="llama", cached=True),
        LanguageRow("llama with copy head", family="llama", options=COPY, cached=True),
    )
    return replace(suite, rows=rows, full={**suite.full, "index_dim": 8}, seeds=(1,), baseline="llama")


@pytest.mark.parametrize("which", [0, 1])
def test_each_control_is_a_mixture_that_validation_text_decides(cached, corpus, which):
    run = LanguageRun(cached, cached.rows[which], 1)
    found = measure_caches(run, build_model(run), corpus)
    assert found.keys() == CONTROLS.keys()
    for name, parts in CONTROLS.items():
        weights = found[name]["weights"]
        assert tuple(weights) == parts and sum(weights.values()) == pytest.approx(1)
        assert found[name]["chosen"].keys() == set(parts) & TRIED.keys()
    assert found["alone"]["weights"] == {"model": 1.0}
    better = ("with both", "with a neural cache", "alone")
    ppls = [found[name]["valid_word_ppl"] for name in better]
    assert ppls == sorted(ppls)  # each is a mixture of more
    assert found["with both"]["test_word_ppl"] < found["alone"]["test_word_ppl"] / 2  # 13 lines over and over


def test_the_test_split_decides_nothing(cached, corpus):
    run = LanguageRun(cached, cached.rows[0], 1)
    model = build_model(run)
    other = replace(corpus, streams=corpus.streams | {"test": corpus.streams["test"].flip(0)})
    first, second = (measure_caches(run, model, text) for text in (corpus, other))
    for name in CONTROLS:
        assert first[name]["weights"] == second[name]["weights"] and first[name]["chosen"] == second[name]["chosen"]
        assert first[name]["valid_word_ppl"] == second[name]["valid_word_ppl"]
        assert first[name]["test_word_ppl"] != second[name]["test_word_ppl"]


def test_a_suite_that_still_chooses_has_no_test_perplexity(cached, corpus):
    suite = replace(cached, tested=False)
    run = LanguageRun(suite, suite.rows[0], 1)
    assert not any("test_word_ppl" in found for found in measure_caches(run, build_model(run), corpus).values())


def test_a_run_keeps_them_and_its_plan_stays(cached, corpus, tmp_path):
    assert run_suite(cached, lambda recipe: corpus, tmp_path / "out", tmp_path / "work", rows=["llama"]) == 0
    result = json.loads((tmp_path / "out" / "ablation" / "llama-1.json").read_text())
    for split in ("valid", "test"):
        assert result["caches"]["alone"][f"{split}_word_ppl"] == pytest.approx(result[f"{split}_word_ppl"], rel=1e-4)
    plain = replace(cached.rows[0], cached=False)
    assert result["plan"] == cached.plan(plain) == cached.plan(cached.rows[0])
    assert load_shared(tmp_path / "out", LanguageRun(cached, cached.rows[0], 1), corpus.digest) is not None


def test_a_run_that_was_trained_before_gets_them_from_its_weights(cached, corpus, tmp_path, monkeypatch):
    out, work = tmp_path / "out", tmp_path / "work"
    run = LanguageRun(cached, cached.rows[0], 1)
    plain = replace(cached, rows=(replace(cached.rows[0], cached=False),))
    monkeypatch.setattr(runner, "remove_training", lambda folder: None)
    assert not add_caches(run, corpus, out, work)  # neither a result nor weights
    assert run_suite(plain, lambda recipe: corpus, out, work) == 0
    before = run.load(out)
    assert "caches" not in before and load_shared(out, run, corpus.digest) is None
    assert not add_caches(run, corpus, out, tmp_path / "nowhere")
    assert not add_caches(LanguageRun(plain, plain.rows[0], 1), corpus, out, work)
    assert add_caches(run, corpus, out, work)
    after = run.load(out)
    assert {**after, "caches": None} == {**before, "caches": None}
    assert after["caches"]["alone"]["test_word_ppl"] == pytest.approx(before["test_word_ppl"], rel=1e-4)
    assert not add_caches(run, corpus, out, work)  # they are there
    run.store(out, before | {"test_word_ppl": 2 * before["test_word_ppl"]})
    with pytest.raises(ValueError, match=r"^'work' must hold the weights of the result, .*\(got [\d.]+\)$"):
        add_caches(run, corpus, out, work)


def test_the_table_has_the_mean_over_runs_that_were_measured_so(cached, tmp_path):
    assert cache_table(cached, tmp_path) == ""
    suite = replace(cached, seeds=(1, 2, 3))
    for seed, ppl in ((1, 10.0), (2, 14.0), (3, None)):
        run = LanguageRun(suite, suite.rows[1], seed)
        caches = {name: {"test_word_ppl": ppl, "valid_word_ppl": math.nan} for name in CONTROLS}
        result = {"plan": run.plan, "seed": seed} | ({"caches": caches} if ppl else {})
        run.store(tmp_path, result)
    text = cache_table(suite, tmp_path)
    assert text.splitlines()[0] == f"| test ppl of | {' | '.join(CONTROLS)} | seeds |"
    assert text.splitlines()[2:] == [f"| llama with copy head | {' | '.join(['12.0 +- 2.0'] * len(CONTROLS))} | 2 |"]


def test_the_cache_reaches_beyond_its_window(cached, corpus):
    """A state of long before helps where the model itself knows nothing."""
    run = LanguageRun(cached, cached.rows[0], 1)
    model = build_model(run)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # states of equal words are then alike, and of others not
    found = measure_caches(run, model, corpus)["with a neural cache"]
    assert found["weights"][NEURAL] > 0.5
