"""The models of the suites of edges: causality, permutations, batches, and relation-aware attention by loops."""

import pytest
import torch
from torch_geometric.data import Data

from tmt_geo.compare.edges.models import EdgeModel
from tmt_geo.compare.edges.node_models import NodeTransformer
from tmt_geo.compare.edges.relation_transformer import RelationTransformer, _RelationLayer
from tmt_geo.compare.edges.sized import count_parameters
from tmt_geo.data.problems import CompositionProblem, WordProblem

WORDS, FACTS = WordProblem.over("S3"), CompositionProblem.over("S3")
OF_WORDS = [
    *(pytest.param(EdgeModel, {"forms": [form], "rounds": 2}, id=form) for form in ("factored", "gated", "axial")),
    pytest.param(NodeTransformer, {"rounds": 2}, id="nodes"),
]
OF_FACTS = [
    pytest.param(EdgeModel, {"forms": ["factored"], "layers": 2}, id="edges"),
    pytest.param(RelationTransformer, {"layers": 2, "rounds": 2}, id="relation-aware"),
]


def draw(problem, count, size, seed=0):
    return problem.sample(count, size, torch.Generator().manual_seed(seed))


def make(build, problem, options):
    torch.manual_seed(0)
    return build(problem, 16, 12, **options).double()


@pytest.mark.parametrize(("build", "options"), OF_WORDS)
def test_no_answer_depends_on_what_comes_after_it(build, options):
    model, data = make(build, WORDS, options), draw(WORDS, 3, 7)
    asked = data.y >= 0
    before = model(data)[asked].view(3, 7, -1)
    changed = data.clone()
    changed.x = torch.where(data.time > 4, (data.x + 1) % 6, data.x)
    after = model(changed)[asked].view(3, 7, -1)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-12)
    assert ((before - after)[:, 4:].abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize(("build", "options"), OF_WORDS)
def test_a_word_alone_gives_what_it_gives_among_others(build, options):
    model, data = make(build, WORDS, options), draw(WORDS, 3, 5)
    whole = model(data).view(3, data.edge_index.size(1) // 3, -1)
    for word in range(3):
        own = data.batch == word
        edges = data.batch[data.edge_index[0]] == word
        alone = Data(
            x=data.x[own], edge_index=data.edge_index[:, edges] - 6 * word, edge_attr=data.edge_attr[edges],
            batch=data.batch[own] * 0, time=data.time[own], num_graphs=1,
        )  # fmt: skip
        torch.testing.assert_close(model(alone), whole[word])


@pytest.mark.parametrize(("build", "options"), OF_FACTS)
def test_answers_move_with_the_nodes(build, options):
    model, data = make(build, FACTS, options), draw(FACTS, 2, 4)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    moved = data.clone()
    moved.edge_attr = data.edge_attr.view(2, 5, 5)[:, order][:, :, order].flatten()
    torch.testing.assert_close(model(moved).view(2, 5, 5, -1), model(data).view(2, 5, 5, -1)[:, order][:, :, order])


def test_a_graph_is_asked_through_the_means_of_its_nodes_and_edges():
    problem = WordProblem(name="graphs", node_kinds=7, edge_kinds=3, classes=4, level="graph", group="S3")
    model = make(EdgeModel, problem, {})
    assert model(draw(WORDS, 3, 5)).shape == (3, 4)


def test_rounds_share_their_weights():
    for build, problem in ((NodeTransformer, WORDS), (EdgeModel, WORDS), (RelationTransformer, FACTS)):
        once, often = (count_parameters(make(build, problem, {"rounds": rounds})) for rounds in (1, 4))
        twice = count_parameters(make(build, problem, {"layers": 2}))
        assert once == often < twice


def test_rounds_of_nodes_are_applied():
    once, often = (make(NodeTransformer, WORDS, {"rounds": rounds}) for rounds in (1, 2))
    often.load_state_dict(once.state_dict(), strict=False)
    data = draw(WORDS, 2, 5)
    assert not torch.allclose(once(data), often(data))


def test_relation_aware_attention_is_that_of_its_formula():
    torch.manual_seed(0)
    layer = _RelationLayer(edge_kinds=5, width=6, hidden=4, heads=2).double()
    x, kinds = torch.randn(1, 3, 6, dtype=torch.double), torch.randint(5, (1, 3, 3))
    out = torch.zeros(3, 6, dtype=torch.double)
    normed = layer.norm(x[0])
    weight, bias = layer.lin_content.weight.view(3, 6, 6), layer.lin_content.bias.view(3, 6)
    for i in range(3):
        for head in (slice(0, 3), slice(3, 6)):
            query = (weight[0] @ normed[i] + bias[0])[head]
            scores, values = [], []
            for j in range(3):
                to, back = int(kinds[0, j, i]), 5 + int(kinds[0, i, j])
                key, value = (weight[part] @ normed[j] + bias[part] for part in (1, 2))
                key = key + layer.key_of_kind.weight[to] + layer.key_of_kind.weight[back]
                value = value + layer.value_of_kind.weight[to] + layer.value_of_kind.weight[back]
                scores.append(query @ key[head] / 3**0.5)
                values.append(value[head])
            share = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
            out[i, head] = (share.unsqueeze(1) * torch.stack(values)).sum(0)
    expected = x[0] + layer.lin_out(out)
    expected = expected + layer.ffn(layer.ffn_norm(expected))
    torch.testing.assert_close(layer(x, kinds)[0], expected)
