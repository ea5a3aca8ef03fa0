import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import nearest_nodes, neighbor_table, token_labels


def layer(angles, **fields):
    """Nodes on the unit circle."""
    angles = torch.tensor(angles)
    return Data(x=torch.stack([angles.cos(), angles.sin()], 1), edge_index=torch.zeros(2, 0).long(), **fields)


def test_bank_moves_from_loan_to_river():
    loan, bank, river = 0.0, 0.1, 1.0
    graphs = [layer([loan, bank, river]), layer([loan, 0.9, river])]
    first, second = nearest_nodes(graphs, 1, top=2)
    assert [node for node, _ in first] == [0, 2] and [node for node, _ in second] == [2, 0]
    assert first[0][1] == pytest.approx(torch.tensor(0.1).cos().item(), abs=1e-6)
    columns = neighbor_table(graphs, [1], ["loan", "bank", "river"], top=2).data[0].cells.values
    assert [column[0] for column in columns] == ["loan (0) 1.00", "river (2) 1.00"]
    assert [column[1] for column in columns] == ["river (2) 0.62", "loan (0) 0.62"]


def test_nearest_by_similarity_is_the_cosine_of_the_model_states(text):
    for graph, near in zip(text.graphs, nearest_nodes(text.graphs, 20, top=4), strict=True):
        cosine = torch.cosine_similarity(graph.x.double(), graph.x[20].double().unsqueeze(0))
        cosine[20] = -1
        assert [node for node, _ in near] == cosine.topk(4).indices.tolist()
        assert [value for _, value in near] == pytest.approx(cosine.topk(4).values.tolist())


def test_nearest_by_attention_are_those_attended_to(text):
    for graph, near in zip(text.graphs, nearest_nodes(text.graphs, 20, top=99, by="attention"), strict=True):
        mine = (graph.edge_index[1] == 20) & (graph.edge_index[0] != 20)
        assert sorted(node for node, _ in near) == sorted(graph.edge_index[0, mine].tolist())
        weights = graph.attention.mean(1)[mine].double().sort(descending=True).values.tolist()
        assert [value for _, value in near] == pytest.approx(weights)


def test_a_frozen_node_attends_to_none(text):
    frozen = int((~text.graphs[-1].active).nonzero()[0])
    assert nearest_nodes(text.graphs, frozen, by="attention")[-1] == []
    columns = neighbor_table(text.graphs, [frozen], by="attention", top=3).data[0].cells.values
    assert list(columns[-1]) == [""] * 3


def test_of_equals_the_later_node_comes_first():
    assert [node for node, _ in nearest_nodes([layer([0.5, 0.5, 0.5, 0.5])], 1)[0]] == [3, 2, 0]


def test_nodes_of_other_graphs_are_no_neighbors():
    graph = layer([0.0, 0.0, 0.5, 0.0], batch=torch.tensor([0, 1, 0, 1]))
    assert [[node for node, _ in near] for near in nearest_nodes([graph], 0)] == [[2]]


def test_a_menu_shows_each_node(text):
    labels = token_labels(text.graphs, text.tokenizer)
    figure = neighbor_table(text.graphs, [3, 9], labels, top=2, names=["a", "b", "c"])
    assert list(figure.data[0].header["values"]) == ["<b>a</b>", "<b>b</b>", "<b>c</b>"]
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label.split("(")[1] for button in buttons] == ["3)", "9)"]
    for node, button in zip((3, 9), buttons, strict=True):
        for column, near in zip(
            button.args[0]["cells.values"][0], nearest_nodes(text.graphs, node, top=2), strict=True
        ):
            assert [cell.split("(")[1].split(")")[0] for cell in column] == [str(other) for other, _ in near]
    assert buttons[0].args[0]["cells.values"][0] == [list(column) for column in figure.data[0].cells.values]
    assert not neighbor_table(text.graphs, [3], labels).layout.updatemenus


def test_labels_never_become_markup():
    figure = neighbor_table([layer([0.0, 1.0])], [0], ["a", "<b>x</b>"], names=["<i>"])
    assert figure.data[0].cells.values[0][0].startswith("&lt;b&gt;x")
    assert "&lt;i&gt;" in figure.data[0].header["values"][0]


def test_what_does_not_fit_is_refused(text):
    with pytest.raises(ValueError, match=r"'node' must lie in \[0, 24\) \(got 24\)"):
        nearest_nodes(text.graphs, 24)
    with pytest.raises(ValueError, match=r"'top' must be at least 1 \(got 0\)"):
        nearest_nodes(text.graphs, 0, top=0)
    with pytest.raises(ValueError, match="'by' must be one of"):
        nearest_nodes(text.graphs, 0, by="colour")
    with pytest.raises(ValueError, match="'nodes' needs at least one node"):
        neighbor_table(text.graphs, [])
