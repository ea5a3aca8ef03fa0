"""Attention to neighbors on every device, in float32 and bfloat16, against its definition or itself in float64."""

import pytest
import torch

from tmt_geo import DynamicMeshAttention, MeshAttention, knn_graph, set_compile
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.ops import compiled as compiling
from tmt_geo.ops.mesh_attention import mesh_attention, table_attention
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_attention
from tmt_geo.testing import assert_precise

T, N, H, C, K = 31, 40, 4, 8, 5
DECAYS = [None, "log", "published"]


@pytest.fixture
def compiled(device):
    if device.type == "cpu":
        pytest.skip("tests/ops tries the compiler on the CPU")
    set_compile("always")
    yield
    assert not compiling._state["broken"], "the compiler has failed, and plain code has run"
    set_compile("auto")


def edges():
    """A list in any order; target 0 has no edges."""
    return torch.stack([torch.randint(N, (200,)), torch.randint(1, T, (200,))])


def nodes(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def terms(name, rows):
    """What each decay adds to the scores or multiplies with the weights."""
    return {None: {}, "log": {"bias": nodes(*rows, H)}, "published": {"gain": nodes(*rows, H).sigmoid()}}[name]


@pytest.mark.parametrize("decay", DECAYS)
def test_over_edges(device, dtype, decay):
    inputs = {"query": nodes(T, H, C), "key": nodes(N, H, C), "value": nodes(N, H, C), "edge_index": edges()}

    def run(**inputs):
        return mesh_attention(**inputs)[0]

    assert_precise(run, inputs | terms(decay, (200,)), device, dtype, expected=naive_attention)


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("decay", DECAYS)
def test_over_a_table(device, dtype, decay, shared, few):
    targets, groups = 3 if few else T, H // shared
    table, mask = torch.randint(N, (targets, K)), torch.rand(targets, K) < 0.7
    inputs = {"query": nodes(targets, H, C), "key": nodes(N, groups, C), "value": nodes(N, groups, C)}
    inputs |= {"own_key": nodes(targets, groups, C), "own_value": nodes(targets, groups, C)}
    inputs |= {"mu": nodes(groups, C).sigmoid(), "nu": nodes(groups, C).sigmoid(), "table": table, "mask": mask}

    def run(query, key, value, own_key, own_value, mu, nu, table, mask, **terms):
        own = (own_key, own_value)
        return table_attention(query, key, value, table, mask, self_kv=own, shift_weight=(mu, nu), **terms)[0]

    def definition(query, key, value, own_key, own_value, mu, nu, table, mask, **terms):
        ahead = torch.arange(1, N + 1).clamp(max=N - 1)
        rows = [
            torch.cat([part + weight * (part[ahead] - part), own]).repeat_interleave(shared, dim=1)
            for part, weight, own in ((key, mu, own_key), (value, nu, own_value))
        ]
        every = torch.cat([table, N + torch.arange(targets).unsqueeze(1)], dim=1)
        there = torch.cat([mask, torch.ones(targets, 1, dtype=torch.bool)], dim=1)
        edge_index = torch.stack([every[there], torch.arange(targets).unsqueeze(1).expand_as(every)[there]])
        return naive_attention(query, *rows, edge_index, **{name: part[there] for name, part in terms.items()})

    assert_precise(run, inputs | terms(decay, (targets, K + 1)), device, dtype, expected=definition)


def test_over_edges_and_a_table_compiled(device, dtype, compiled):
    test_over_edges(device, dtype, "log")
    test_over_a_table(device, dtype, "log", shared=2, few=False)


@pytest.mark.parametrize("of", ["edges", "mesh"])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_convolution(device, dtype, decay, of):
    x, time = nodes(N, 12), torch.randperm(N)
    mesh = knn_graph(x, K, time=time, causal=True)
    found = torch.randint(N, (2, 160)) if of == "edges" else mesh
    conv = MeshAttention(12, C, H, decay=decay, causal=True, residual=True)

    def run(conv, x, time):
        return conv(x, found.to(x.device), time=time)

    assert_precise(run, {"x": x, "time": time}, device, dtype, module=conv)


def test_the_convolution_over_edges_with_features(device, dtype):
    conv, edge_index = MeshAttention(12, C, H, edge_dim=3), torch.randint(N, (2, 160))
    inputs = {"x": nodes(N, 12), "edge_index": edge_index, "edge_attr": nodes(160, 3)}
    assert_precise(lambda conv, **inputs: conv(**inputs), inputs, device, dtype, module=conv)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("options", [{}, {"kv_heads": 2, "shift": True}], ids=str)
def test_the_attention_of_a_layer(device, dtype, decay, options):
    attention = NeighborAttention(H * C, H, decay=decay, **options)
    table, mask = torch.randint(N - 1, (N, K)), torch.rand(N, K) < 0.7
    lag = torch.rand(N, K, dtype=torch.float64)

    def run(attention, x, table, mask, lag):
        query, (key, value) = attention.query(x), attention.key_value(x)
        return attention(query, key, value, table, mask, (key, value), lag.detach())[0]

    assert_precise(run, {"x": nodes(N, H * C), "table": table, "mask": mask, "lag": lag}, device, dtype,
                   module=attention)  # fmt: skip


def test_the_dynamic_convolution(device):
    conv, batch = DynamicMeshAttention(6, C, K, heads=H, metric="euclidean"), torch.arange(60) % 3
    inputs = {"x": nodes(60, 6), "batch": batch}
    assert_precise(lambda conv, x, batch: conv(x, batch), inputs, device, torch.float32, module=conv)
