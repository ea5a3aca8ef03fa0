from functools import partial

import pytest
import torch

from tmt_geo import Mesh, knn_graph
from tmt_geo.ops import mesh_attention as module
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.mesh_attention import RotatedWindow, mesh_attention, table_attention
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.ops.naive.mesh_attention import shifted_edges
from tmt_geo.testing import assert_grads_close

SHAPES = [(1, 1, 1, 3), (5, 9, 2, 4), (63, 200, 3, 5)]


def leaves(*shapes, dtype=torch.float64):
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.fixture(params=["few", "many"])
def either_path(request, monkeypatch):
    """The graphs of these tests as small ones, which they are, and as large ones."""
    if request.param == "many":
        monkeypatch.setattr(module, "SMALL", -1)
    return request.param


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize(("N", "E", "H", "C"), [pytest.param(*s, id="N{}-E{}-H{}-C{}".format(*s)) for s in SHAPES])
@pytest.mark.parametrize("terms", [(), ("bias",), ("gain",), ("bias", "gain")], ids=lambda t: "-".join(t) or "plain")
def test_mesh_attention_matches_naive(N, E, H, C, terms):
    q, k, v = leaves((N, H, C), (N, H, C), (N, H, C))
    extra = dict(zip(terms, leaves(*[(E, H)] * len(terms)), strict=True))
    edge_index = torch.randint(N, (2, E))
    out, _ = mesh_attention(q, k, v, edge_index, **extra)
    expected = naive_mesh_attention(q, k, v, edge_index, **extra)
    if E > N:  # with one edge a softmax is constant in its scores
        assert_grads_close(out, expected, {"query": q, "key": k, "value": v, **extra})
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("either_path")
@pytest.mark.parametrize("groups", [1, 2])
def test_heads_that_share_keys_and_values_match_naive(groups):
    q, k, v = leaves((7, 4, 3), (9, groups, 3), (9, groups, 3))
    edge_index = torch.stack([torch.randint(9, (30,)), torch.randint(7, (30,))])
    out, _ = mesh_attention(q, k, v, edge_index)
    wide = [part.repeat_interleave(4 // groups, dim=1) for part in (k, v)]
    assert_grads_close(out, naive_mesh_attention(q, *wide, edge_index), {"query": q, "key": k, "value": v})


@pytest.mark.usefixtures("either_path")
def test_scores_far_apart_overflow_nowhere():
    """The softmax of each target is taken less the largest score of its own, here 1e4 above or below another's."""
    q = torch.tensor([1e4, -1e4, 1.0]).view(3, 1, 1).requires_grad_()
    k, v = torch.tensor([1.0, 1.0, 1.0]).view(3, 1, 1), torch.tensor([3.0, 5.0, 7.0]).view(3, 1, 1)
    out, alpha = mesh_attention(q, k, v, torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1]]))
    torch.testing.assert_close(out.flatten(), torch.tensor([4.0, 6.0, 0.0]))
    torch.testing.assert_close(alpha.flatten(), torch.full((4,), 0.5))
    (grad,) = torch.autograd.grad(out.sum(), q)
    assert torch.isfinite(grad).all()


@pytest.mark.usefixtures("either_path")
def test_a_graph_without_edges_gives_zeros_and_gradients():
    q, k, v = leaves((4, 2, 3), (4, 2, 3), (4, 2, 3))
    out, alpha = mesh_attention(q, k, v, torch.zeros(2, 0, dtype=torch.long))
    assert out.shape == (4, 2, 3) and alpha.shape == (0, 2) and not out.any()
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), (q, k, v)))


@pytest.mark.usefixtures("either_path")
def test_equal_keys_give_the_mean_of_the_values():
    v = torch.randn(4, 2, 3, dtype=torch.float64)
    ones = torch.ones_like(v)
    out, _ = mesh_attention(ones, ones, v, torch.tensor([[0, 1, 2], [3, 3, 3]]))
    torch.testing.assert_close(out[3], v[:3].mean(0))
    assert (out[:3] == 0).all()  # no edges, no output


@pytest.mark.usefixtures("either_path")
def test_gradcheck():
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 2, 0]])
    q, k, v, gain = leaves((3, 1, 2), (3, 1, 2), (3, 1, 2), (4, 1))

    def run(q, k, v, gain):
        return mesh_attention(q, k, v, edge_index, gain=gain)[0]

    assert torch.autograd.gradcheck(run, (q, k, v, gain))
    assert torch.autograd.gradgradcheck(run, (q, k, v, gain))


def table_edges(mesh, loop):
    """Edges of a table in row order, the self edge last, as the bias of the table counts them."""
    mask = torch.nn.functional.pad(mesh.mask, (0, int(loop)), value=True)
    table = torch.cat([mesh.table, mesh.target_index.unsqueeze(1)], 1) if loop else mesh.table
    return torch.stack([table[mask], mesh.target_index.unsqueeze(1).expand_as(table)[mask]]), mask


@pytest.mark.parametrize("loop", [True, False], ids=["self", "noself"])
@pytest.mark.parametrize("shift", [True, False], ids=["shift", "noshift"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("targets", [None, [3, 4, 11], [12]], ids=["all", "some", "one"])
def test_table_attention_matches_naive_edges(loop, shift, groups, targets):
    N, H, C = 13, 4, 6
    mesh = knn_graph(torch.randn(N, 3), 5, causal=True)  # the first rows have fewer than k neighbors
    mesh = mesh if targets is None else mesh.restrict(torch.tensor(targets))
    edge_index, mask = table_edges(mesh, loop)
    k, v, weight_k, weight_v = leaves((N, groups, C), (N, groups, C), (groups, C), (groups, C))
    q, bias, gain = leaves((mesh.table.size(0), H, C), (*mask.shape, H), (*mask.shape, H))
    weights = (weight_k.sigmoid(), weight_v.sigmoid()) if shift else None
    target = mesh.target_index
    out, alpha = table_attention(
        q, k, v, mesh.table, mesh.mask, self_kv=(k[target], v[target]) if loop else None, shift_weight=weights,
        bias=bias, gain=gain,
    )  # fmt: skip

    # The row of each edge becomes a node of its own, so that the definition needs no shift.
    src, dst = edge_index
    row = torch.full((N,), -1)
    row[target] = torch.arange(target.numel())
    edge_k = shifted_edges(k, edge_index, weight_k.sigmoid()) if shift else k[src]
    edge_v = shifted_edges(v, edge_index, weight_v.sigmoid()) if shift else v[src]
    edge_k, edge_v = (part.repeat_interleave(H // groups, 1) for part in (edge_k, edge_v))
    lone = torch.stack([torch.arange(src.numel()), row[dst]])
    expected = naive_mesh_attention(q, edge_k, edge_v, lone, bias[mask], gain[mask])
    inputs = {"query": q, "key": k, "value": v, "bias": bias, "gain": gain}
    if shift:
        inputs |= {"weight of keys": weight_k, "weight of values": weight_v}
    assert_grads_close(out, expected, inputs)
    assert (alpha[~mask] == 0).all()


def turned_back(rows, distance):
    """Rows (E, H, C), channel c and c + C / 2 turned back as one complex number, by distance * 10000 ** (-2 c / C)."""
    real, imaginary = rows.chunk(2, dim=-1)
    half = real.size(-1)
    angle = distance.view(-1, 1, 1) * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    out = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angle), -angle)
    return torch.cat([out.real, out.imag], dim=-1)


@pytest.mark.parametrize("loop", [True, False], ids=["self", "noself"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("targets", [None, [3, 4, 11], [12]], ids=["all", "some", "one"])
def test_a_window_that_is_rotated_beside_edges_by_content(loop, groups, targets):
    N, H, C, size = 13, 2, 6, 3
    layout = DenseLayout.uniform(1, N)
    nearest = knn_graph(torch.randn(N, 3), 4, causal=True)
    before, exists = layout.window(size)
    mesh = Mesh(torch.cat([nearest.table, before], 1), torch.cat([nearest.mask, exists], 1), N)
    mesh = mesh if targets is None else mesh.restrict(torch.tensor(targets))
    edge_index, mask = table_edges(mesh, loop)
    k, v, weight = leaves((N, groups, C), (N, groups, C), (groups, C))
    q, bias = leaves((mesh.table.size(0), H, C), (*mask.shape, H))
    target = mesh.target_index
    window = RotatedWindow(size, partial(layout.slot_rotation, C, torch.float64), target)
    out, _ = table_attention(
        q, k, v, mesh.table, mesh.mask, self_kv=(k[target], v[target]) if loop else None,
        shift_weight=(weight.sigmoid(), weight.sigmoid()), bias=bias, rotated=window,
    )  # fmt: skip

    src, dst = edge_index
    row = torch.full((N,), -1)
    row[target] = torch.arange(target.numel())
    width = nearest.table.size(1)
    of_window = torch.zeros_like(mask)
    of_window[:, width : width + size] = True
    distance = torch.where(of_window[mask], dst - src, 0)
    share = weight.sigmoid()
    edge_k = turned_back(shifted_edges(k, edge_index, share), distance).repeat_interleave(H // groups, 1)
    edge_v = shifted_edges(v, edge_index, share).repeat_interleave(H // groups, 1)
    lone = torch.stack([torch.arange(src.numel()), row[dst]])
    expected = naive_mesh_attention(q, edge_k, edge_v, lone, bias[mask])
    assert_grads_close(out, expected, {"query": q, "key": k, "value": v, "bias": bias, "weight": weight})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_targets_among_many_sources_gather_only_their_neighbors(dtype):
    """The one-token path of a cached step gathers first and shifts after; both orders are the same."""
    N, H, C = 200, 2, 4
    k, v, q = (torch.randn(n, H, C, dtype=dtype) for n in (N, N, 1))
    shift = (torch.rand(H, C, dtype=dtype), torch.rand(H, C, dtype=dtype))
    table, mask = torch.tensor([[3, 198, 7]]), torch.tensor([[True, True, False]])
    self_kv = (k[-1:], v[-1:])
    alone, _ = table_attention(q, k, v, table, mask, self_kv=self_kv, shift_weight=shift)
    self_kv = tuple(part.expand(N, -1, -1) for part in self_kv)
    q, table, mask = q.expand(N, -1, -1), table.expand(N, -1), mask.expand(N, -1)
    many, _ = table_attention(q, k, v, table, mask, self_kv=self_kv, shift_weight=shift)
    torch.testing.assert_close(alone[0], many[0])


def test_a_table_of_everything_is_dense_attention():
    S, H, C = 9, 2, 4
    q, k, v = (torch.randn(S, H, C, dtype=torch.float64) for _ in range(3))
    mesh = Mesh(torch.arange(S).expand(S, S), torch.ones(S, S).tril(-1).bool(), S)
    out, _ = table_attention(q, k, v, mesh.table, mesh.mask, self_kv=(k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(part.transpose(0, 1).unsqueeze(0) for part in (q, k, v)), is_causal=True
    )
    torch.testing.assert_close(out, expected[0].transpose(0, 1))


def test_dropout_drops_and_keeps_the_mean():
    torch.manual_seed(0)
    q = torch.zeros(2000, 1, 1)
    table = torch.zeros(2000, 1, dtype=torch.long)
    out, _ = table_attention(q, q[:1], torch.ones(1, 1, 1), table, table == 0, dropout=0.25)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(out.mean() - 1) < 0.05
