"""Every figure that sums up others, against a closed form or numpy, on numbers that are not all alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import measure
from benchmarks.graphs import train as graph_training
from benchmarks.graphs.protocol import run_row
from benchmarks.graphs.results import PartialResult
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.recall import recall
from tmt_geo.compare.language import LanguageRun
from tmt_geo.compare.mean import Mean
from tmt_geo.compare.report import ratios, table
from tmt_geo.compare.run import Run
from tmt_geo.compare.suites import ABLATION
from tmt_geo.evaluate import count_flops, evaluate_model
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.viz import depth_rows, effective_rank

UNEVEN = [0.34, 7.5, 2.25, 0.9, 11.0]


# Means and their errors


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_mean_and_its_standard_error(count):
    values = UNEVEN[:count]
    found = Mean.of(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.error == pytest.approx(np.std(values, ddof=1) / np.sqrt(count))
    assert found.say(2) == f"{np.mean(values):.2f} +- {np.std(values, ddof=1) / np.sqrt(count):.2f}"


@pytest.fixture
def written(tmp_path):
    """A table of two rows whose seeds differ widely; the second row lacks a seed and has one of its own."""
    rows = tuple(replace(row, profiled=False, claimed=None) for row in ABLATION.rows[:2])
    suite = replace(ABLATION, rows=rows, seeds=(1, 2, 3), baseline="vanilla")
    figures = {
        "vanilla": {1: (100.0, 8e6, [1.0, 1.0]), 2: (10.0, 2e6, [1.0, 1.0])},
        "full": {1: (50.0, 2e6, [1.0, 0.2]), 2: (20.0, 1e6, [1.0, 0.5]), 3: (7.0, 9e6, [1.0, 0.9])},
    }
    for row in rows:
        for seed, (ppl, flops, active) in figures[row.name].items():
            run = LanguageRun(suite, row, seed)
            result = {"plan": run.plan, "seed": seed, "params": 9, "params_without_embeddings": 5}
            result |= {f"{split}_word_ppl": ppl for split in suite.splits} | {"test_bits_per_byte": ppl / 100}
            result |= {"flops_per_token": flops, "flops_per_token_head": flops / 4, "active_share": active}
            run.store(tmp_path, result)
    return suite, tmp_path, figures


def test_a_table_says_means_over_seeds_and_ratios_seed_by_seed(written):
    suite, folder, figures = written
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table(suite, folder).split("\n")
    ]
    said = list(zip(head, lines[1], strict=True))
    ppl, flops, active = zip(*figures["full"].values(), strict=True)
    error = np.std(ppl, ddof=1) / np.sqrt(3)
    assert ("valid ppl", f"{np.mean(ppl):.1f} +- {error:.1f}") in said
    assert ("MFLOP a token, layers", f"{np.mean(flops) / 1e6:.2f}") in said
    assert ("head", f"{np.mean(flops) / 4e6:.2f}") in said
    assert ("active share", f"{np.mean(active):.2f}") in said and ("seeds", "3") in said
    against = [cell for name, cell in said if name == "against vanilla"]
    # not the ratio of means, and without the third seed, which the baseline does not have
    assert against == [f"{np.mean([50 / 100, 20 / 10]):.2f}", f"{np.mean([2 / 8, 1 / 2]):.2f}"]


def test_ratios_pair_what_has_one_seed():
    runs, base = [{"seed": 5, "x": 3.0}, {"seed": 1, "x": 8.0}], [{"seed": 1, "x": 2.0}, {"seed": 9, "x": 1.0}]
    assert ratios(runs, base, "x") == {1: 4.0}


class Uneven:
    """A task whose scores and times are those of a list."""

    sizes = Sizes(3, 2)

    def fit(self, model, config, seed, limits):
        return Fit(config["quality"], 4, 10 * UNEVEN[seed], lambda: UNEVEN[seed] / 20)


@pytest.mark.parametrize("count", [4, 5])
def test_a_graph_benchmark_says_mean_standard_error_and_median(tmp_path, count):
    row = GraphRow("a", lambda width, sizes, config: torch.nn.Linear(3, width), ({"quality": 0.5}, {"quality": 0.6}))
    suite = GraphSuite("toy", "", (row,), "accuracy", lambda folder: None, 40, Limits(1, 1), tuple(range(count)))
    run = Run(suite, row, None)
    result = run_row(run, Uneven(), PartialResult(tmp_path, run))
    scores = np.array(UNEVEN[:count]) / 20
    assert result["mean"] == pytest.approx(scores.mean())
    assert result["standard_error"] == pytest.approx(scores.std(ddof=1) / np.sqrt(count))
    assert result["step_seconds"] == pytest.approx(10 * np.median(UNEVEN[:count]))
    assert result["chosen"] == {"quality": 0.6}


# Times


class Clock:
    """Each pair of looks at it is as far apart as the list says."""

    def __init__(self, spans):
        self.looks = [look for span in spans for look in (0.0, span)]

    def perf_counter(self):
        return self.looks.pop(0)


def test_a_training_step_takes_its_median_time(monkeypatch):
    monkeypatch.setattr(graph_training, "time", Clock(UNEVEN))
    model = torch.nn.Linear(1, 1)
    found = graph_training.train(
        model, lambda: [lambda: model(torch.ones(1, 1)).sum()], lambda: (0.5, 1.0), {"lr": 0.1, "weight_decay": 0.0},
        Limits(5, 9),
    )  # fmt: skip
    assert found.step_seconds == pytest.approx(np.median(UNEVEN)) != pytest.approx(np.mean(UNEVEN))


def test_contestants_are_timed_by_the_median_of_a_call(monkeypatch):
    spans = {"a": [4.0, 1.0, 9.0], "b": [2.0, 20.0, 6.0]}
    taken = [spans[name][turn] for turn, names in enumerate(("ab", "ba", "ab")) for name in names]
    monkeypatch.setattr(measure, "time", Clock(taken))
    found = measure.alternate({"a": int, "b": int}, {"a": 1, "b": 4}, 3, lambda: None)
    assert found == {"a": 4.0, "b": 6.0 / 4}


# Shares


def test_recall_is_the_share_of_true_neighbors_that_were_found():
    generator = torch.Generator().manual_seed(0)
    tables = [torch.stack([torch.randperm(12, generator=generator)[:4] for _ in range(20)]) for _ in range(2)]
    masks = [torch.rand(20, 4, generator=generator) < 0.8 for _ in range(2)]
    sets = [[set(row[on].tolist()) for row, on in zip(*pair, strict=True)] for pair in zip(tables, masks, strict=True)]
    both, true = (sum(map(len, group)) for group in ((a & b for a, b in zip(*sets, strict=True)), sets[1]))
    assert 0 < both < true
    assert recall((tables[0], masks[0]), (tables[1], masks[1])) == pytest.approx(both / true)


def test_operations_and_active_shares_are_means_over_the_text():
    """Exits make both depend on the window; the start token is read, and not scored."""
    torch.manual_seed(3)
    sizes = {"vocab_size": 31, "d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": 8, "graph_k": 2}
    model = TMTModel(TMTConfig(**sizes, window=2, memory_anchors=0, exit_budget=0.6, dropout=0.0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for _ in range(3):
        model.train()(torch.randint(31, (4, 8)))
    text = torch.randint(31, (40,))
    report = evaluate_model(model, text, words=9, bytes=90, context=8, stride=8, start_token=0)
    whole = torch.cat([torch.zeros(1, dtype=torch.long), text])[:-1].view(5, 1, 8)
    flops = [count_flops(model, window) for window in whole]
    assert len({one.layers for one in flops}) > 1
    assert report.flops_per_token == pytest.approx(np.mean([f.layers + f.search + f.edge_attention for f in flops]))
    assert report.flops_per_token_head == pytest.approx(2 * 16 * 31)
    with torch.no_grad():
        masks = torch.cat([model.eval()(window).exit_masks for window in whole], dim=1)
    assert report.active_share == pytest.approx(1 - masks.double().mean((1, 2)).numpy())
    assert len(set(report.active_share)) == 3


def test_depths_are_means_over_kinds():
    depth, kinds = [1, 4, 2, 3, 3, 1, 5], list("abacbaa")
    want = {kind: np.mean([d for d, k in zip(depth, kinds, strict=True) if k == kind]) for kind in "abc"}
    assert depth_rows(depth, kinds) == [
        (k, kinds.count(k), pytest.approx(want[k])) for k in sorted("abc", key=lambda k: -want[k])
    ]


# Spectra


def of_spectrum(values, rows, columns):
    """A matrix of these singular values."""
    left, right = (torch.linalg.qr(torch.randn(size, size, dtype=torch.double))[0] for size in (rows, columns))
    middle = torch.zeros(rows, columns, dtype=torch.double)
    middle[range(len(values)), range(len(values))] = torch.tensor(values, dtype=torch.double)
    return left @ middle @ right


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4, 2, 1, 1], 2**1.75),  # shares of 1/2, 1/4, 1/8, 1/8 have an entropy of 1.75 bits
        ([3, 1], 4 / 3**0.75),
        ([8, 4, 2, 1, 1], 2**1.875),
        ([5, 5, 5, 0], 3),
    ],
)
def test_effective_rank_is_the_power_of_the_entropy_of_singular_values(values, expected):
    anchors = of_spectrum(values, 7, 5)
    for same in (anchors, 100 * anchors, anchors.T, anchors.flip(0)):
        assert effective_rank(same) == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_any_matrix():
    anchors = torch.randn(6, 9) * torch.arange(1.0, 10.0)
    share = np.linalg.svd(anchors.numpy().astype(np.float64), compute_uv=False)
    share /= share.sum()
    assert effective_rank(anchors) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
