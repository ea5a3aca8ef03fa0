"""What is fast gives what its loops give, in value and every gradient, at any size and in any type."""

from unittest import mock

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import SEEDS, features
from tmt_geo.ops import mesh_attention
from tmt_geo.ops.edge_attention import TRIANGLE_FORMS, triangle_attention
from tmt_geo.ops.events import recent_events
from tmt_geo.ops.linear_attention import taylor_attention
from tmt_geo.ops.naive import edge_attention, events, linear_attention, temporal
from tmt_geo.ops.naive.mesh_attention import mesh_attention as attention_by_loops
from tmt_geo.ops.temporal import past_edges
from tmt_geo.ops.temporal_graph import temporal_graph
from tmt_geo.testing import assert_grads_close

SIZE, FEW, FLAG = st.integers(1, 9), st.integers(1, 3), st.booleans()
NUMBERS = st.sampled_from(["plain", "repeated", "subnormal", "zero"])
LOW = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])


def wide(rows, heads):
    return rows.repeat_interleave(heads // rows.size(1), dim=1)


def attention_inputs(targets, sources, edges, groups, channels, numbers):
    """Queries of twice as many heads as keys, values, and edges with a bias and a gain."""
    shapes = {"query": (targets, 2 * groups), "key": (sources, groups), "value": (sources, groups)}
    rows = {name: features(n, heads * channels, numbers).view(n, heads, -1) for name, (n, heads) in shapes.items()}
    terms = {name: torch.randn(edges, 2 * groups, dtype=torch.float64) for name in ("bias", "gain")}
    edge_index = torch.stack([torch.randint(sources, (edges,)), torch.randint(targets, (edges,))])
    return rows | terms, edge_index


def by_loops(query, key, value, edge_index, bias, gain):
    key, value = (wide(rows, query.size(1)) for rows in (key, value))
    return attention_by_loops(query, key, value, edge_index, bias, gain)


@given(
    targets=SIZE,
    sources=SIZE,
    edges=st.integers(0, 40),
    groups=FEW,
    channels=FEW,
    numbers=NUMBERS,
    few=FLAG,
    seed=SEEDS,
)
def test_attention_over_edges(targets, sources, edges, groups, channels, numbers, few, seed):
    torch.manual_seed(seed)
    inputs, edge_index = attention_inputs(targets, sources, edges, groups, channels, numbers)
    inputs = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    with mock.patch.object(mesh_attention, "SMALL", 2**19 if few else -1):
        out, _ = mesh_attention.mesh_attention(**inputs, edge_index=edge_index)
    expected = by_loops(**inputs, edge_index=edge_index)
    if edges:
        assert_grads_close(out, expected, inputs)
    else:
        assert not out.any() and out.shape == expected.shape


@given(
    targets=SIZE, sources=SIZE, edges=st.integers(1, 40), groups=FEW, channels=FEW, dtype=LOW, few=FLAG, seed=SEEDS,
    numbers=st.sampled_from(["plain", "repeated", "huge", "subnormal", "zero"]),
)  # fmt: skip
def test_attention_over_edges_in_few_bits(targets, sources, edges, groups, channels, dtype, few, seed, numbers):
    """A weight is off by a few roundings of its score, and a sum by one for each of its terms."""
    torch.manual_seed(seed)
    inputs, edge_index = attention_inputs(targets, sources, edges, groups, channels, "plain")
    inputs["gain"] = inputs["gain"].tanh()
    inputs["value"] = features(sources, groups * channels, numbers, dtype).view_as(inputs["value"])
    inputs = {name: tensor.to(dtype) for name, tensor in inputs.items()}
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    with mock.patch.object(mesh_attention, "SMALL", 2**19 if few else -1):
        out, _ = mesh_attention.mesh_attention(**inputs, edge_index=edge_index)
    largest = {name: float(tensor.abs().max()) for name, tensor in exact.items()}
    score = channels**0.5 * largest["query"] * largest["key"] + largest["bias"]
    limits = torch.finfo(dtype)
    slack = (8 + edges + 4 * score) * limits.eps * (largest["value"] * largest["gain"] + limits.tiny)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), by_loops(**exact, edge_index=edge_index), rtol=0, atol=slack)


@given(
    n=st.integers(1, 6), edges=st.integers(1, 16), form=st.sampled_from(list(TRIANGLE_FORMS)), null_slot=FLAG,
    timed=FLAG, parallel=FLAG, seed=SEEDS,
)  # fmt: skip
def test_attention_over_triangles(n, edges, form, null_slot, timed, parallel, seed):
    torch.manual_seed(seed)
    edge_index = torch.randint(n, (2, edges))
    edge_index = edge_index if parallel else edge_index.unique(dim=1)
    size = (edge_index.size(1), 2, 3)
    values = [torch.randn(size, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    scores = [
        torch.randn(size[:2] if form == "factored" else size, dtype=torch.float64, requires_grad=True)
        for _ in range(TRIANGLE_FORMS[form])
    ]
    options = {"form": form, "null_slot": null_slot, "time": torch.randint(3, (n,)) if timed else None}
    for path in ("list", "auto") if parallel else ("list", "dense", "auto"):
        out = triangle_attention(values, scores, edge_index, n, path=path, **options)
        expected = edge_attention.triangle_attention(values, scores, edge_index, n, **options)
        if expected.any():
            assert_grads_close(out, expected, {f"{i}": tensor for i, tensor in enumerate(values + scores)})
        else:
            assert not out.any()


@given(
    n=st.integers(1, 12), groups=FEW, moments=st.sampled_from([None, 1, 3, 12]), null_slot=FLAG, chunk=FEW, seed=SEEDS
)
def test_linear_attention(n, groups, moments, null_slot, chunk, seed):
    torch.manual_seed(seed)
    rows = {name: torch.randn(n, 2, 3, dtype=torch.float64, requires_grad=True) for name in ("query", "key", "value")}
    order = {"group": torch.randint(groups, (n,)), "late": None if moments is None else torch.randint(moments, (n,))}
    out = taylor_attention(**rows, **order, null_slot=null_slot, chunk=chunk)
    assert_grads_close(out, linear_attention.taylor_attention(**rows, **order, null_slot=null_slot), rows)


@given(n=st.integers(1, 12), window=FEW, graphs=FEW, moments=SIZE, seed=SEEDS)
def test_edges_along_time(n, window, graphs, moments, seed):
    torch.manual_seed(seed)
    batch, time, edge_index = torch.randint(graphs, (n,)), torch.randint(moments, (n,)), torch.randint(n, (2, 3 * n))
    found = temporal_graph(n, window, batch, time=time).edge_index
    expected = temporal.temporal_graph(n, window, batch, time=time)
    assert sorted(found.t().tolist()) == sorted(expected.t().tolist())
    for edge_time in (None, torch.rand(3 * n) * moments):
        assert torch.equal(past_edges(edge_index, time, edge_time), temporal.past_edges(edge_index, time, edge_time))


@given(users=SIZE, count=st.integers(0, 14), moments=SIZE, recent=FEW, seed=SEEDS)
def test_recent_events(users, count, moments, recent, seed):
    torch.manual_seed(seed)
    edge_index, time = torch.randint(users, (2, count)), torch.randint(moments, (count,))
    found, expected = recent_events(edge_index, time, recent), events.recent_events(edge_index, time, recent)
    assert sorted(zip(*found[0].tolist(), found[1].tolist(), strict=True)) == sorted(
        zip(*expected[0].tolist(), expected[1].tolist(), strict=True)
    )
