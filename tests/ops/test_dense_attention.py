import pytest
import torch

from tmt_geo.ops.decay import log_decay, published_decay
from tmt_geo.ops.dense_attention import decayed_dense_attention, dense_attention
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.ops.naive.mesh_attention import mesh_attention as naive_mesh_attention
from tmt_geo.testing import assert_grads_close

H, C = 4, 3


def setup(groups, targets):
    """Two rows of 5 slots; the past of every target as edges over slots."""
    layout = DenseLayout.uniform(2, 5)
    targets = torch.arange(10) if targets is None else torch.tensor(targets)
    k, v = (torch.randn(10, groups, C, dtype=torch.float64, requires_grad=True) for _ in range(2))
    q = torch.randn(targets.numel(), H, C, dtype=torch.float64, requires_grad=True)
    pairs = [(j, t) for t, i in enumerate(targets.tolist()) for j in range(i // 5 * 5, i + 1)]
    edge_index = torch.tensor(pairs).t()
    return layout.batch[targets], layout.position[targets], targets, q, k, v, edge_index


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    "targets",
    [None, [1, 3, 4, 9], [7], [5, 6, 7, 8, 9, 0, 1, 2, 3, 4], [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]],
    ids=["all", "some", "one", "rows swapped", "unsorted"],
)
def test_dense_attention_is_attention_over_all_past_edges(groups, targets):
    row, rank, _, q, k, v, edge_index = setup(groups, targets)
    out = dense_attention(q, k.view(2, 5, groups, C), v.view(2, 5, groups, C), row, rank)
    repeat = H // groups
    expected = naive_mesh_attention(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), edge_index)
    assert_grads_close(out, expected, {"query": q, "key": k, "value": v})


@pytest.mark.parametrize("form", ["bias", "gain"])
@pytest.mark.parametrize("targets", [None, [1, 3, 4, 9]], ids=["all", "some"])
def test_decayed_dense_attention_is_decayed_attention_over_all_past_edges(form, targets):
    row, rank, targets, q, k, v, edge_index = setup(2, targets)
    rate = torch.rand(H, dtype=torch.float64, requires_grad=True)
    decay = log_decay if form == "bias" else published_decay
    dense_lag = (rank.unsqueeze(1) - torch.arange(5)).double()
    edge_lag = (targets[edge_index[1]] - edge_index[0]).double()
    grid = (part.view(2, 5, 2, C) for part in (k, v))
    out = decayed_dense_attention(q, *grid, row, rank, **{form: decay(dense_lag, rate)})
    full_k, full_v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    expected = naive_mesh_attention(q, full_k, full_v, edge_index, **{form: decay(edge_lag, rate)})
    assert_grads_close(out, expected, {"query": q, "key": k, "value": v, "rate": rate})
