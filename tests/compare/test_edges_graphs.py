"""The suites on graphs: the paired comparison of BREC, the models, and how they are measured."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tmt_geo.compare.edges.brec import BREC, EMBEDDING, together
from tmt_geo.compare.edges.chosen_edges import ChosenEdgesModel, NodesOnly
from tmt_geo.compare.edges.cliques import CLIQUES
from tmt_geo.compare.edges.csl import CSL
from tmt_geo.compare.edges.gps import GraphTransformer
from tmt_geo.compare.edges.graph_model import EdgeGraphModel
from tmt_geo.compare.edges.paired_comparison import (
    CHANNELS,
    NUMBERINGS,
    THRESHOLD,
    Comparison,
    Verdict,
    compare_pair,
    hotelling,
    separate,
)
from tmt_geo.compare.edges.untrained import APART, OfMatrices
from tmt_geo.compare.problem_report import table
from tmt_geo.compare.problem_runner import run_suites
from tmt_geo.data.problems import FourCycles
from tmt_geo.data.problems.all_pairs import ADJACENT, as_pairs, random_adjacency
from tmt_geo.data.problems.brec import PARTS, brec_pairs, renumbered
from tmt_geo.data.problems.cliques import CliqueProblem
from tmt_geo.data.problems.look_alike import LOOK_ALIKE, rook, shrikhande

UNTRAINED = Comparison(epochs=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def edges(*rounds):
    torch.manual_seed(0)
    return OfMatrices(EdgeGraphModel(EMBEDDING, 8, 16, rounds=rounds, heads=2))


def gin():
    torch.manual_seed(0)
    return OfMatrices(GraphTransformer(EMBEDDING, 8, 16, layers=3, attention=False))


def test_the_threshold_is_that_of_fishers_distribution():
    stats = pytest.importorskip("scipy.stats")
    q, d = NUMBERINGS, CHANNELS
    assert (q - 1) * d / (q - d) * stats.f.ppf(0.95, d, q - d) == pytest.approx(THRESHOLD, abs=5e-3)


def test_the_statistic_is_that_of_the_formula():
    difference = torch.randn(32, 5, generator=generator(), dtype=torch.float64) + 0.3
    rows = difference.numpy()
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / 31
    import numpy as np

    assert hotelling(difference) == pytest.approx(float(mean @ np.linalg.solve(covariance, mean)))
    one = difference[:, :1]  # of one channel: Student's t, squared, over q
    assert hotelling(one) == pytest.approx(float(one.mean() ** 2 / one.var()))
    mixed = difference @ torch.randn(5, 5, generator=generator(1), dtype=torch.float64)
    assert hotelling(mixed) == pytest.approx(hotelling(difference))  # whatever the basis
    assert hotelling(torch.zeros(32, 5)) == 0


def test_a_verdict_needs_a_large_statistic_and_a_small_control():
    assert Verdict(100.0, 1.0).told and Verdict(100.0, 1.0).reliable
    assert not Verdict(72.0, 1.0).told
    assert not Verdict(1e9, 100.0).told and not Verdict(1e9, 100.0).reliable


@pytest.mark.parametrize("how", [UNTRAINED, Comparison(epochs=2, rate=1e-3)], ids=["untrained", "trained"])
def test_a_graph_is_not_told_from_itself(how):
    one, order = shrikhande(), torch.randperm(16, generator=generator())
    verdict = compare_pair(edges("gated+pair", "gated+pair"), one, one[order][:, order], how, generator())
    assert verdict.reliable and not verdict.told


def test_rook_and_shrikhande_are_told_by_pairs_and_not_by_triangles():
    for rounds, told in ((["gated+pair"] * 2, True), (["gated"] * 2, False), (["axial"] * 2, False)):
        assert compare_pair(edges(*rounds), rook(), shrikhande(), UNTRAINED, generator()).told == told


def test_a_model_whose_numbering_shows_is_not_believed():
    class SeesTheNumbering(nn.Linear):
        def forward(self, graphs):
            self.calls = getattr(self, "calls", 0) + 1
            return self.calls % 2 + 0.01 * torch.randn(len(graphs), CHANNELS, generator=generator(self.calls))

    verdict = compare_pair(SeesTheNumbering(1, 1), rook(), shrikhande(), UNTRAINED, generator())
    assert verdict.statistic > THRESHOLD and not verdict.reliable and not verdict.told


def test_message_passing_tells_none_of_basic(data_folder):
    for one, other in brec_pairs("basic", data_folder / "brec")[:4]:
        how = Comparison(epochs=2, rate=1e-3)
        assert not compare_pair(gin(), one, other, how, generator()).told
        assert compare_pair(edges("gated", "gated"), one, other, UNTRAINED, generator()).told


def test_training_steps_are_those_of_whole_batches(monkeypatch):
    """A few graphs at a time give the gradients of all together, and turn the embeddings apart."""
    ones, others = (renumbered(graph, 8, generator()) for graph in LOOK_ALIKE["C6 / 2 C3"])
    how = Comparison(epochs=3, rate=1e-2, batch=8, enough=-1.0)
    models = [edges("gated", "gated") for _ in range(2)]
    separate(models[0], ones, others, how)
    monkeypatch.setattr("tmt_geo.compare.edges.paired_comparison.PAIRS", 40)
    separate(models[1], ones, others, how)
    for one, few in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, few)

    @torch.no_grad()
    def cosine(model):
        return float(torch.cosine_similarity(model(ones), model(others)).mean())

    assert cosine(models[0]) < cosine(edges("gated", "gated")) - 0.01


def test_training_ends_when_the_loss_is_small():
    ones, others = (renumbered(graph, 8, generator()) for graph in LOOK_ALIKE["C6 / 2 C3"])
    model, same = edges("gated"), edges("gated")
    separate(model, ones, others, Comparison(epochs=5, rate=1e-3, enough=2.0))
    separate(same, ones, others, Comparison(epochs=1, rate=1e-3, enough=2.0))
    assert all(map(torch.equal, model.parameters(), same.parameters()))


ROUNDS = [["gated+pair", "gated"], ["factored"], ["product"], ["pivot"], ["pair"], ["axial"]]


@pytest.mark.parametrize("rounds", ROUNDS, ids=str)
def test_graphs_of_a_batch_do_not_see_each_other_and_have_no_numbering(rounds):
    graphs = random_adjacency(3, 7, 0.5, generator())
    model = edges(*rounds)
    order = torch.randperm(7, generator=generator())
    together_out = model(graphs)
    torch.testing.assert_close(together_out, torch.cat([model(graph.unsqueeze(0)) for graph in graphs]))
    torch.testing.assert_close(together_out, model(graphs[:, order][:, :, order]))


@pytest.mark.parametrize("walk", [0, 4])
@pytest.mark.parametrize("level", ["edge", "graph"])
def test_the_controls_have_no_numbering(level, walk):
    problem = replace(FourCycles.of_degree(3.0, classes=4), level=level)
    torch.manual_seed(0)
    model = GraphTransformer(problem, 8, 8, heads=2, layers=2, walk=walk).double().eval()
    graphs = random_adjacency(2, 6, 0.5, generator())
    order = torch.randperm(6, generator=generator())
    out, other = (model(as_pairs(g, torch.zeros(2, 1).long())) for g in (graphs, graphs[:, order][:, :, order]))
    if level == "edge":
        out = out.view(2, 6, 6, -1)[:, order][:, :, order].flatten(0, 2)
    torch.testing.assert_close(out, other, rtol=1e-6, atol=1e-6)  # the walks are in float32


CLIQUE = CliqueProblem.of_size(8, degree=3, classes=4)


@pytest.mark.parametrize("kind", ["given", "routed", "random", "full", None])
def test_models_of_chosen_edges_answer_about_all_pairs_and_learn(kind):
    torch.manual_seed(0)
    model = ChosenEdgesModel(CLIQUE, 8, 8, edges=kind, k=3, heads=2) if kind else NodesOnly(CLIQUE, 8, 8, heads=2)
    data = CLIQUE.sample(3, 8, generator())
    out = model(data)
    assert out.shape == (3 * 64, 4)
    out.square().sum().backward()
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert all("lin_edge" in name or name.endswith("given") for name in unused), unused


@pytest.mark.parametrize("kind", ["given", "routed", "random", "full"])
def test_the_edges_with_states_are_those_of_the_name(kind, monkeypatch):
    torch.manual_seed(0)
    model = ChosenEdgesModel(CLIQUE, 8, 8, edges=kind, k=3, heads=2).eval()
    seen = []
    net = model.net.forward

    def look(*args, **kwargs):
        x, found = net(*args, **kwargs)
        seen.append(found[0])
        return x, found

    monkeypatch.setattr(model.net, "forward", look)
    data = CLIQUE.sample(3, 8, generator())
    model(data)
    (edge_index,) = seen
    if kind == "given":
        assert torch.equal(edge_index, data.edge_index[:, data.edge_attr == ADJACENT])
    else:
        count = 8 if kind == "full" else 3
        assert edge_index[1].bincount().tolist() == [count] * 24
        assert torch.equal(data.batch[edge_index[0]], data.batch[edge_index[1]])


def test_the_untrained_suite_says_what_is_told_apart():
    row = next(row for row in APART.rows if row.name == "triangle + pair")
    assert APART.measure(row, 5)["scores"] == dict.fromkeys(["all", *LOOK_ALIKE], 1.0)
    row = next(row for row in APART.rows if row.name == "GPS")
    assert APART.measure(row, 5)["scores"] == dict.fromkeys(["all", *LOOK_ALIKE], 0.0)


def test_brec_is_run_by_part_and_reported_whole(data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TMT_GEO_DATA", str(data_folder))
    small = {part: count for part, count in PARTS.items() if part in ("basic", "regular")}
    monkeypatch.setattr("tmt_geo.compare.edges.brec.PARTS", small)
    suite = replace(BREC.only(["triangle"]).quick(), how=UNTRAINED)
    assert run_suites([suite], tmp_path) == 0
    kept = json.loads((tmp_path / "brec" / "triangle-basic-0.json").read_text())
    assert kept["scores"] == {"basic": 1.0} and kept["told"] == [0] and kept["plan"]["part"] == "basic"
    assert "| triangle |" in table(suite, tmp_path) and "| 1.000 | 1.000 | 1.000 |" in table(suite, tmp_path)
    (tmp_path / "brec" / "triangle-basic-0.json").unlink()
    assert suite.results(tmp_path)["triangle"][0]["scores"] == {"all": 0.5, "regular": 1.0}  # none of what was not run


def test_parts_count_by_their_pairs():
    parts = [{"scores": {"a": 0.5}, "pairs": 2, "told": [1], "seconds": 1.0},
             {"scores": {"b": 1.0}, "pairs": 6, "told": list(range(6)), "seconds": 2.0}]  # fmt: skip
    assert together(parts, 8)["scores"] == {"all": 7 / 8, "a": 0.5, "b": 1.0}
    assert together(parts, 14)["scores"]["all"] == 0.5 and together(parts, 8)["seconds"] == 3.0


def test_skip_links_are_measured_by_fold():
    suite = replace(CSL.quick(), budget=2_000)
    result = suite.measure(replace(suite.rows[3], rate=1e-3), 0)
    assert result["scores"] == {"left out": pytest.approx(0.1)} and len(result["folds"]) == 1


def test_routed_rows_have_states_for_less_than_half_of_the_pairs():
    assert CLIQUES.rows[1].options["k"] == CLIQUES.problem.degree < CLIQUES.problem.node_kinds / 2
