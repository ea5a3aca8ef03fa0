"""What the page of the linked view holds, read back by numpy and json alone."""

import json
import re
from base64 import b64decode

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from tmt_geo import TMTEncoder, TMTModel
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config
from tmt_geo.viz import Positions, explore, token_labels
from tmt_geo.viz.explore_data import node_order, word_starts

HOSTILE = '</script><script>alert(1)</script><!-- & \u2028"'


def data_of(explorer):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', explorer.html, re.DOTALL)
    return json.loads(found)


def array(text, dtype):
    return np.frombuffer(b64decode(text), dtype)


@pytest.fixture(scope="module")
def page(text):
    return data_of(explore(text.graphs, token_labels(text.graphs, text.tokenizer)))


def test_every_edge_is_there_with_its_weight_and_decay(text, page):
    """Oracle: a loop over the edges of the layers."""
    for graph, packed in zip(text.graphs, page["edges"], strict=True):
        starts, source = array(packed["starts"], "<u4"), array(packed["source"], "<u2")
        weight, decay = array(packed["weight"], "<u2") / 65535, array(packed["decay"], "u1") / 255
        assert packed["window"] == text.model.config.window
        for node in range(len(graph.x)):
            wanted = {
                int(s): (float(w.mean()), float(d.mean()))
                for s, t, w, d in zip(*graph.edge_index, graph.attention, graph.decay, strict=True)
                if t == node and s != node
            }
            here = slice(starts[node], starts[node + 1])
            assert set(source[here].tolist()) == set(wanted)
            assert (np.diff(weight[here]) <= 0).all()
            for s, w, d in zip(source[here].tolist(), weight[here], decay[here], strict=True):
                assert w == pytest.approx(wanted[s][0], abs=1e-5) and d == pytest.approx(wanted[s][1], abs=2.1e-3)


def test_an_edge_of_the_window_is_one_that_the_search_left_out():
    """The window is wide or absent in two models of the same weights: what the lag says is what differs."""
    torch.manual_seed(0)
    encoder = TMTEncoder(5, 16, 1, heads=2, k=3, window=4, causal=True)
    x, batch = torch.randn(20, 5), torch.tensor([0] * 12 + [1] * 8)
    graph = encoder.layer_graphs(x, batch)[0]
    order, (source, target) = node_order(graph), graph.edge_index.numpy()
    lag = order[target] - order[source]
    for node in range(20):
        start = 0 if node < 12 else 12
        window = set(source[(target == node) & (lag >= 1) & (lag <= 4)].tolist())
        assert window == set(range(max(start, node - 4), node))
        assert len(source[(target == node) & (lag > 4)]) == min(3, max(0, node - start - 4))


def test_nodes_stand_in_order_of_time_within_their_graph():
    graph = Data(
        x=torch.zeros(5, 1), time=torch.tensor([3.0, 1.0, 2.0, 9.0, 8.0]), batch=torch.tensor([0, 0, 0, 1, 1])
    )
    assert node_order(graph).tolist() == [2, 0, 1, 1, 0]


def test_states_of_the_nodes(text, page):
    active = array(page["active"], "u1").reshape(len(text.graphs), -1)
    assert (active == torch.stack([graph.active for graph in text.graphs]).numpy()).all()
    places = array(page["places"], "<i2").reshape(len(text.graphs), -1, 2)
    assert np.abs(places).max() == 32767 and (np.abs(places).reshape(len(places), -1).max(1) > 16000).all()
    assert page["layers"] == ["layer 1", "layer 2", "layer 3"] and page["text"]


def test_given_positions_keep_their_proportions(text):
    xy = np.random.default_rng(0).normal(size=(3, 24, 2)) * [5, 1]
    packed = data_of(explore(text.graphs, positions=Positions(xy, "mine")))
    places = array(packed["places"], "<i2").reshape(3, 24, 2).astype(float)
    assert packed["note"] == "mine"
    for given, shown in zip(xy, places, strict=True):
        given, shown = given - given.mean(0), shown - shown.mean(0)
        scale = (given * shown).sum() / np.square(given).sum()
        assert scale > 0 and np.allclose(shown, scale * given, atol=1)


def test_words_of_several_tokens():
    labels = ["The", " m", "esh", "es", ",", " don", "'", "t", "↵", "a", "b", " ", "c", "·", "d", ""]
    begun = [label for label, begins in zip(labels, word_starts(labels), strict=True) if begins]
    assert begun == ["The", " m", ",", " don", "'", "t", "↵", "a", " ", "c", "·", "d", ""]


def test_a_cloud_stands_where_it_is_in_three_dimensions():
    points = torch.rand(9, 3)
    graphs = TMTEncoder(3, 8, 2, heads=2, causal=False).layer_graphs(points)
    graphs[0].pos = points
    packed = data_of(explore(graphs))
    assert packed["dims"] == 3 and not packed["text"] and packed["begins"] == [1] * 9
    places = array(packed["places"], "<i2").reshape(2, 9, 3)
    assert (places[0] == places[1]).all()


def test_several_steps_share_the_nodes(text):
    packed = data_of(explore([text.graphs, text.graphs], steps=["early", "late"]))
    assert packed["steps"] == ["early", "late"] and len(packed["edges"]) == 6
    places = array(packed["places"], "<i2").reshape(2, 3, 24, 2) / 32767
    apart = np.linalg.norm(places[0] - places[1], axis=-1).mean()
    assert 0 < apart < 0.15  # the same states: nothing has moved far


def test_groups_and_classes(text, nodes):
    assert array(data_of(explore(nodes))["groups"], "<i2").reshape(3, 14)[2].tolist() == nodes[0].y.tolist()
    given = np.arange(72).reshape(3, 24) % 4 - 1
    assert (array(data_of(explore(text.graphs, groups=given))["groups"], "<i2") == given.ravel()).all()
    assert data_of(explore(text.graphs))["groups"] is None


def test_2048_tokens_and_12_layers_are_under_5_mb():
    model = lively(TMTModel(tiny_config(n_layers=12, max_seq_len=2048, window=16, graph_k=8, exit=False)))
    graphs = model.layer_graphs(torch.randint(VOCAB, (1, 2048)))
    assert len(graphs) == 12 and sum(graph.num_edges for graph in graphs) > 550_000
    explorer = explore(graphs, [f" word{i}" for i in range(2048)], positions="pca")
    assert len(explorer.html.encode()) < 5_000_000


def test_hostile_text_ends_nothing(text):
    explorer = explore(text.graphs, [HOSTILE] * 24, names=["a", HOSTILE, "c"], title=HOSTILE)
    assert data_of(explorer)["labels"] == [HOSTILE] * 24 and data_of(explorer)["layers"][1] == HOSTILE
    assert "<script>alert" not in explorer.html and explorer.html.count("</script>") == 2


def test_a_page_and_a_notebook_show_it(text, tmp_path):
    explorer = explore(text.graphs)
    assert explorer.save(tmp_path / "mesh.html").read_text(encoding="utf-8") == explorer.html
    frame = explorer._repr_html_()
    assert frame.startswith("<iframe") and frame.count('"') == 8 and "default-src 'none'" in explorer.html


@pytest.mark.parametrize("options, said", [
    ({"positions": "best"}, "'positions' must be one of"),
    ({"positions": Positions(np.zeros((2, 24, 2)))}, "'positions' must be of 3 layers and 24 nodes"),
    ({"groups": np.zeros(3)}, "'groups' must have shape"),
    ({"steps": ["a", "b"]}, "'steps' needs one entry a step, 1"),
    ({"labels": ["a"]}, "'labels' needs one entry a node, 24"),
])  # fmt: skip
def test_errors(text, options, said):
    with pytest.raises(ValueError, match=rf"{said}.*\(got "):
        explore(text.graphs, **options)


def test_errors_of_the_layers(text):
    with pytest.raises(ValueError, match=r"'graphs' needs at least one layer \(got none\)"):
        explore([])
    with pytest.raises(ValueError, match=r"the same number of layers in every step \(got \[1, 3\]\)"):
        explore([text.graphs, text.graphs[:1]])
    with pytest.raises(ValueError, match=r"'pos' of the graphs must have shape .* \(got \(24, 5\)\)"):
        explore([Data(x=text.graphs[0].x, edge_index=text.graphs[0].edge_index, pos=torch.zeros(24, 5))])
