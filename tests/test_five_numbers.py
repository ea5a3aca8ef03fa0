"""Five numbers of a fixed seed, in float64: a change of structure, names or words must leave each as it is."""

import pytest
import torch

from tmt_geo import MeshAttention, MeshGNN, TemporalDecay, TMTConfig, TMTEncoder, TMTModel, knn_graph

LOSS = 3.7556748034980276
GRADIENT = 1.57263903732641
ENCODER = 30.460404051272192
GRAPH = 0.7314948489930762
ATTENTION = 126.73507317392199


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def language_model() -> TMTModel:
    sizes = {"vocab_size": 40, "d_model": 16, "n_heads": 2, "n_layers": 3, "max_seq_len": 64, "graph_k": 3}
    parts = {"window": 4, "memory_anchors": 4, "copy_k": 4, "index_dim": 8, "rebuild_every": 2, "exit_rule": "budget"}
    parts |= {"content_mesh": False, "copy_sentinel": False}
    return TMTModel(TMTConfig(**sizes, **parts, dropout=0.0)).double()


def fixed(value: float) -> object:
    return pytest.approx(value, rel=1e-10, abs=0)


def test_loss_and_gradient_of_the_language_model():
    model, ids = language_model(), torch.randint(40, (2, 48))
    loss = model(ids, labels=ids).loss
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert loss.item() == fixed(LOSS)
    assert norm.item() == fixed(GRADIENT)


def test_encoder_with_a_window():
    x, batch = torch.randn(30, 6), torch.arange(30) // 12
    model = TMTEncoder(6, 16, num_layers=3, out_channels=4, causal=True, k=3, heads=2, window=2).eval()
    assert model(x, batch).square().sum().item() == fixed(ENCODER)


def test_graph_model_with_a_mesh_beside_its_edges():
    x, edge_index, batch = torch.randn(30, 6), torch.randint(30, (2, 70)), torch.arange(30) // 15
    model = MeshGNN(
        6, 16, num_layers=3, out_channels=4, k=3, heads=2, norm="layer_norm", pool="mean", exit_rule="budget"
    )
    assert model.eval()(x, edge_index, batch=batch).square().sum().item() == fixed(GRAPH)


def test_attention_with_decay_over_a_causal_mesh():
    x, time = torch.randn(30, 6), torch.arange(30.0)
    conv = MeshAttention(6, 4, heads=2, causal=True, decay=TemporalDecay(2, "log", rate=0.1))
    mesh = knn_graph(x, 3, time=time, causal=True)
    assert conv(x, mesh, time=time).square().sum().item() == fixed(ATTENTION)
