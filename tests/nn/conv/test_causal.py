"""Edges with timestamps, and a causal convolution."""

import pytest
import torch

from tmt_geo import Mesh, MeshAttention, TemporalDecay
from tmt_geo.ops.temporal import past_edges
from tmt_geo.testing import assert_grads_close

N, E = 14, 90


def temporal(seed=0):
    """Features, times with ties, edges in all directions with self-loops and twins, and when they happened."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 5, dtype=torch.float64, generator=generator)
    time = torch.randint(6, (N,), generator=generator).double()
    edge_index = torch.randint(N, (2, E), generator=generator)
    return x, time, edge_index, 6 * torch.rand(E, dtype=torch.float64, generator=generator)


def with_messages(conv):
    """Make the messages, so that none is left out."""
    conv.register_message_forward_hook(lambda module, inputs, out: None)
    return conv


@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
@pytest.mark.parametrize("options", [{}, {"decay": "log"}, {"decay": "published"},
                                     {"add_self_loops": False}, {"edge_dim": 3}, {"scaler": "linear"}],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("edge_timed", [False, True], ids=["node times", "edge times"])
def test_nothing_of_the_past_moves_when_the_future_does(messages, options, edge_timed):
    conv = MeshAttention(5, 4, heads=2, causal=True, **options).double().train()
    conv = with_messages(conv) if messages else conv
    x, time, edge_index, edge_time = temporal()
    edge_attr = torch.randn(E, 3, dtype=torch.float64) if "edge_dim" in options else None
    now = 3
    early = time <= now
    # What happens later: other features of later nodes (a timed edge carries its source when it happens); other
    # ends of the events, other times, and more of them.
    later = edge_time >= now if edge_timed else (time[edge_index] > now).any(0)
    moved = x if edge_timed else x.where(early.unsqueeze(1), torch.randn_like(x))
    others = edge_index.clone()
    others[:, later] = torch.randint(N, (2, int(later.sum())))
    if not edge_timed:
        others[0, later] = torch.nonzero(~early).squeeze(1)[torch.randint(int((~early).sum()), (int(later.sum()),))]
    others = torch.cat([others, others[:, later].flip(1)], dim=1)
    rest = {}
    if edge_timed:
        rest["edge_time"] = torch.cat([edge_time, edge_time[later] + 1])
    if edge_attr is not None:
        rest["edge_attr"] = torch.cat([edge_attr, torch.randn(int(later.sum()), 3, dtype=torch.float64)])
    out = conv(x, edge_index, time=time, edge_attr=edge_attr, **({"edge_time": edge_time} if edge_timed else {}))
    again = conv(moved, others, time=time, **rest)
    torch.testing.assert_close(again[early], out[early])
    assert not torch.allclose(again[~early], out[~early])
    plain = MeshAttention(5, 4, heads=2, **options).double()  # the same test sees a convolution that is not causal
    plain.load_state_dict(conv.state_dict())
    before = plain(x, edge_index, time=time, edge_attr=edge_attr)
    assert not torch.allclose(plain(moved, others, time=time, edge_attr=rest.get("edge_attr"))[early], before[early])


@pytest.mark.parametrize("decay", [None, "log", "published"])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
@pytest.mark.parametrize("edge_timed", [False, True], ids=["node times", "edge times"])
def test_left_out_is_as_never_given(decay, loops, messages, edge_timed):
    conv = MeshAttention(5, 4, heads=4, decay=decay, add_self_loops=loops, causal=True).double()
    conv = with_messages(conv) if messages else conv
    plain = MeshAttention(5, 4, heads=4, decay=decay, add_self_loops=loops).double()
    plain.load_state_dict(conv.state_dict())
    x, time, edge_index, edge_time = temporal()
    x.requires_grad_()
    past = past_edges(edge_index, time, edge_time if edge_timed else None)
    options = {"edge_time": edge_time} if edge_timed else {}
    kept = {"edge_time": edge_time[past]} if edge_timed else {}
    expected, weights = plain(x, edge_index[:, past], time=time, return_attention_weights=True, **kept)
    out, (edges, alpha) = conv(x, edge_index, time=time, return_attention_weights=True, **options)
    assert torch.equal(edges, weights[0])
    torch.testing.assert_close(alpha, weights[1])
    torch.testing.assert_close(out, expected)
    direction = torch.randn_like(out)
    got = torch.autograd.grad(out, [x, *conv.parameters()], direction)
    torch.testing.assert_close(got, torch.autograd.grad(expected, [x, *plain.parameters()], direction))


def test_a_mesh_is_masked_like_its_edges():
    conv = MeshAttention(5, 4, heads=2, decay="log", causal=True).double()
    x, time, edge_index, _ = temporal()
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    x.requires_grad_()
    mesh = Mesh.from_edge_index(edge_index, N)
    by_table, (edges, _) = conv(x, mesh, time=time, return_attention_weights=True)
    assert_grads_close(by_table, conv(x, edge_index, time=time), {"x": x, **dict(conv.named_parameters())})
    assert edges.size(1) == N + int(past_edges(edge_index, time).sum())
    some = torch.tensor([12, 3, 5])
    torch.testing.assert_close(conv(x, mesh.restrict(some), time=time), by_table[some])


@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
@pytest.mark.parametrize("edge_dim", [None, 3])
def test_the_lag_is_the_time_since_the_edge(messages, edge_dim):
    """Held against a convolution in which every edge has a source of its own, at the time of the edge."""
    conv = MeshAttention(5, 4, heads=2, decay="log", edge_dim=edge_dim, add_self_loops=False).double()
    conv = with_messages(conv) if messages else conv
    x, time, edge_index, edge_time = temporal()
    edge_attr = None if edge_dim is None else torch.randn(E, 3, dtype=torch.float64)
    out = conv(x, edge_index, edge_attr, time=time, edge_time=edge_time)
    own_source = torch.stack([torch.arange(E), edge_index[1]])
    expected = conv((x[edge_index[0]], x), own_source, edge_attr, time=(edge_time, time))
    torch.testing.assert_close(out, expected)
    assert not torch.allclose(out, conv(x, edge_index, edge_attr, time=time))


def test_self_loops_of_the_input_go_with_their_time_and_new_ones_have_no_lag():
    conv = MeshAttention(5, 4, heads=2, decay=TemporalDecay(2, rate=5.0)).double()
    x, time, edge_index, edge_time = temporal()
    assert (edge_index[0] == edge_index[1]).any()
    others = edge_index[0] != edge_index[1]
    out = conv(x, edge_index, time=time, edge_time=edge_time)
    torch.testing.assert_close(conv(x, edge_index[:, others], time=time, edge_time=edge_time[others]), out)
    alone = MeshAttention(5, 4, heads=2, decay="published").double()
    _, (_, alpha) = alone(x, edge_index[:, :0], time=time, edge_time=edge_time[:0], return_attention_weights=True)
    assert (alpha == 0.5).all()  # what the published factor is without lag
    # Without loops of the layer's own, those of the input are events as any other.
    bare = MeshAttention(5, 4, heads=2, decay="log", add_self_loops=False).double()
    _, (edges, _) = bare(x, edge_index, time=time, edge_time=edge_time, return_attention_weights=True)
    assert torch.equal(edges, edge_index)


def test_two_sets_of_nodes():
    conv = MeshAttention((3, 5), 4, heads=2, add_self_loops=False, causal=True, decay="log")
    x, edge_index = (torch.randn(4, 3), torch.randn(3, 5)), torch.tensor([[0, 1, 2, 3, 3], [0, 0, 1, 1, 2]])
    time = (torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 3.0]))
    out, (edges, _) = conv(x, edge_index, time=time, return_attention_weights=True)
    assert edges.tolist() == [[0, 2], [0, 1]]  # 1 -> 0 and 3 -> 1 are of one time
    assert (out[2] == 0).all() and (out[:2] != 0).all()
    edge_time = torch.tensor([5.0, 0.5, 3.0, 2.9, 0.0])
    _, (edges, _) = conv(x, edge_index, time=time, return_attention_weights=True, edge_time=edge_time)
    assert edges.tolist() == [[1, 3, 3], [0, 1, 2]]
    timeless = (None, time[1])  # sources need none where edges have their own
    torch.testing.assert_close(conv(x, edge_index, time=timeless, edge_time=edge_time),
                               conv(x, edge_index, time=time, edge_time=edge_time))  # fmt: skip
    looped = MeshAttention((3, 5), 4, heads=2, causal=True)
    _, (edges, _) = looped(x, edge_index[:, :0], time=(torch.tensor([0.0, 4.0, 3.0, 0.0]), time[1]),
                           return_attention_weights=True)  # fmt: skip
    assert edges.tolist() == [[0, 2], [0, 2]]  # a loop from a later source is none


@pytest.mark.parametrize(
    ("argument", "options", "call"),
    [
        ("'time'", {"causal": True}, {}),
        ("'time'", {}, {"edge_time": torch.zeros(E)}),
        ("'time'", {"causal": True}, {"time": torch.zeros(N - 1)}),
        ("'edge_time'", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(E + 1)}),
        ("'edge_time'", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(E, 1)}),
        ("'edge_time'", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(E, device="meta")}),
        ("'edge_time'", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(E),
                             "edge_index": Mesh.from_edge_index(torch.tensor([[0], [1]]), N)}),
        ("'edge_time'", {}, {"time": torch.zeros(N), "edge_time": torch.zeros(N),
                             "edge_index": torch.eye(N).to_sparse_csr()}),
    ],
)  # fmt: skip
def test_bad_input_names_the_argument(argument, options, call):
    x, _, edge_index, _ = temporal()
    with pytest.raises(ValueError, match=rf"{argument} .*\(got "):
        MeshAttention(5, 4, **options)(**{"x": x.float(), "edge_index": edge_index, **call})
