"""PyG's explainers find the edges and nodes that matter, and no others."""

import pytest
import torch
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer

from tmt_geo import MeshAttention

# Nodes 1 to 5 are sources of node 0, node 6 of node 1; node 3 alone is not zero. One self-loop is in the input.
EDGES = torch.tensor([[1, 2, 3, 4, 5, 6, 2], [0, 0, 0, 0, 0, 1, 2]])
X = torch.zeros(7, 4)
X[3] = torch.tensor([1.0, -2.0, 1.5, 0.5])


class Net(torch.nn.Module):
    def __init__(self, layers=1, **options):
        super().__init__()
        sizes = [4] + [3] * layers
        self.convs = torch.nn.ModuleList(
            MeshAttention(a, b, heads=2, concat=False, bias=False, **options)
            for a, b in zip(sizes, sizes[1:], strict=False)
        )

    def forward(self, x, edge_index, **times):
        for conv in self.convs:
            x = conv(x, edge_index, **times)
        return x


def explain(model, algorithm, node_mask=None, **times):
    explainer = Explainer(
        model, algorithm, explanation_type="model", node_mask_type=node_mask, edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )  # fmt: skip
    return explainer(X, EDGES, index=0, **times)


@pytest.mark.parametrize("options", [{}, {"add_self_loops": False}, {"decay": "log"}], ids=str)
def test_gnn_explainer_finds_the_node_that_matters(options):
    """Also where it has to make messages that the convolution otherwise does without."""
    times = {"time": torch.arange(7).flip(0)} if "decay" in options else {}
    model = Net(**options).eval()
    before = model(X, EDGES, **times)
    found = explain(model, GNNExplainer(epochs=60, lr=0.1), node_mask="object", **times)
    edge, node = found.edge_mask, found.node_mask.squeeze(1)
    assert edge.shape == (7,) and node.shape == (7,)
    assert edge[2] > 1.5 * edge[[0, 1, 3, 4]].max()
    assert (edge[5:] == 0).all()  # the last two do not reach node 0
    assert node[3] > 0 and node[3] >= node.max()
    torch.testing.assert_close(model(X, EDGES, **times), before)  # and it leaves nothing behind
    assert not model.convs[0]._needs_messages()


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("layers", [1, 2])
def test_attention_explainer_reports_the_weights(layers, place):
    """PyG takes the first of the weights for those of the edges, also where one of these is a loop."""
    model = Net(layers).eval()
    edges = EDGES[:, :-1]
    torch.nn.init.normal_(model.convs[0].lin_query.weight, std=3)
    x, weights = X + torch.randn(7, 4), []
    explainer = Explainer(
        model, AttentionExplainer(), explanation_type="model", edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "node", "return_type": "raw"},
    )  # fmt: skip
    looped = torch.cat([edges[:, :place], EDGES[:, -1:], edges[:, place:]], dim=1)
    mask = explainer(x, looped, index=0).edge_mask
    assert mask[place] == 0  # in its place the convolution has a loop of its own
    mask = torch.cat([mask[:place], mask[place + 1 :]])
    hidden = x
    for conv in model.convs:
        hidden, (used, alpha) = conv(hidden, edges, return_attention_weights=True)
        assert torch.equal(used[:, :6], edges)
        weights.append(alpha[:6].amax(1))
    expected = torch.stack(weights).amax(0)
    reached = torch.tensor([True] * 5 + [layers == 2])
    torch.testing.assert_close(mask, expected.where(reached, torch.zeros(6)))
    assert mask[:5].std() > 0.01


def test_explainers_number_all_edges_of_a_causal_convolution():
    """Those that are masked have no weight."""
    model = Net(causal=True, decay="log", add_self_loops=False).eval()
    times = {"time": torch.full((7,), 5.0), "edge_time": torch.tensor([1.0, 9.0, 2.0, 3.0, 9.0, 1.0, 1.0])}
    attention = explain(model, AttentionExplainer(), **times).edge_mask
    assert (attention[[1, 4]] == 0).all() and (attention[[0, 2, 3]] > 0).all()
    mask = explain(model, GNNExplainer(epochs=60, lr=0.1), **times).edge_mask
    assert mask.shape == (7,) and (mask[[1, 4]] == 0).all()
    assert mask[2] > 1.5 * mask[[0, 3]].max()
    looped = Net(causal=True, decay="log").eval()
    assert explain(looped, GNNExplainer(epochs=2), **times).edge_mask.shape == (7,)
