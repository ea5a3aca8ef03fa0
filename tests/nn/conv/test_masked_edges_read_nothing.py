"""What is not finite spreads along edges that count, and along no others."""

import pytest
import torch

from tmt_geo import Mesh, MeshAttention

N, CHANNELS, LATE = 12, 5, 8


def edges():
    return torch.randint(N, (2, 60))


def table():
    return Mesh(torch.randint(N, (N, 4)), torch.rand(N, 4) < 0.7, N)


def plain(conv, graph, x):
    return conv(x, graph, time=torch.arange(N))


def compiled(conv, graph, x):
    torch.compiler.reset()
    return torch.compile(conv, backend="eager")(x, graph, time=torch.arange(N))


def hooked(conv, graph, x):
    conv.register_message_forward_hook(lambda module, inputs, output: None)
    return plain(conv, graph, x)


@pytest.mark.parametrize("run", [plain, compiled, hooked])
@pytest.mark.parametrize("make", [edges, table])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_later_nodes_are_not_read(run, make, bad):
    conv, graph, x = MeshAttention(CHANNELS, 4, heads=2, causal=True), make(), torch.randn(N, CHANNELS)
    broken = x.clone()
    broken[LATE:] = bad
    assert torch.equal(run(conv, graph, broken)[:LATE], run(conv, graph, x)[:LATE])


def test_a_table_reads_nothing_where_it_holds_no_edge():
    conv, x = MeshAttention(CHANNELS, 4), torch.randn(N, CHANNELS)
    mesh = Mesh(torch.zeros(N, 3, dtype=torch.long), torch.zeros(N, 3, dtype=torch.bool), N)
    expected = conv(x, mesh)
    x[0] = float("nan")
    torch.testing.assert_close(conv(x, mesh)[1:], expected[1:])
