"""Attention among edges on every device, in float32 and bfloat16, against its definition or itself in float64."""

import pytest
import torch

from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.ops.edge_attention import TRIANGLE_FORMS, axial_attention, pair_attention, triangle_attention
from tmt_geo.ops.naive import edge_attention as naive
from tmt_geo.ops.naive import routing as naive_routing
from tmt_geo.ops.routing import route_edges, soft_topk
from tmt_geo.testing import assert_precise

N, H, C = 7, 2, 4
paths = pytest.mark.parametrize("path", ["dense", "list"])
null_slots = pytest.mark.parametrize("null_slot", [False, True])


def edges():
    """Different edges in any order, self-loops among them."""
    pairs = torch.cartesian_prod(torch.arange(N), torch.arange(N)).t()
    return pairs[:, torch.randperm(N * N)[:20]]


def rows(*shape):
    return torch.randn(20, *shape, dtype=torch.float64)


@paths
@null_slots
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", TRIANGLE_FORMS)
def test_triangles(device, dtype, form, causal, null_slot, path):
    shape = (H,) if form == "factored" else (H, C)
    inputs = {"v": rows(H, C), "w": rows(H, C)} | {f"s{i}": rows(*shape) for i in range(TRIANGLE_FORMS[form])}
    inputs |= {"edge_index": edges(), "time": torch.randperm(N) if causal else None}

    def run(attention, v, w, edge_index, time, options, **scores):
        return attention((v, w), tuple(scores.values()), edge_index, N, form=form, time=time, **options)

    options = {"null_slot": null_slot}
    # Where an edge has one triangle the gradient of its score is nothing but rounding: up to 27 epsilons in 240 draws.
    assert_precise(
        lambda **inputs: run(triangle_attention, options=options | {"path": path}, **inputs), inputs, device, dtype,
        expected=lambda **inputs: run(naive.triangle_attention, options=options, **inputs),
        times=32 if dtype == torch.float32 else 8,
    )  # fmt: skip


@paths
@null_slots
@pytest.mark.parametrize("causal", [False, True])
def test_pairs(device, dtype, causal, null_slot, path):
    inputs = {name: rows(H, C) for name in ("query", "key", "value")}
    inputs |= {"cross": torch.randn(22, 4, H, dtype=torch.float64), "edge_index": edges()}
    options = {"num_nodes": N, "null_slot": null_slot}
    inputs |= {"time": torch.randperm(N) if causal else None}
    assert_precise(
        lambda **inputs: pair_attention(**inputs, **options, path=path), inputs, device, dtype,
        expected=lambda **inputs: naive.pair_attention(**inputs, **options),
    )  # fmt: skip


@paths
@null_slots
@pytest.mark.parametrize("along", ["source", "target"])
def test_rows_and_columns(device, dtype, along, null_slot, path):
    inputs = {name: rows(H, C) for name in ("query", "key", "value")} | {"edge_index": edges()}
    options = {"num_nodes": N, "along": along, "null_slot": null_slot}
    assert_precise(
        lambda **inputs: axial_attention(**inputs, **options, path=path), inputs, device, dtype,
        expected=lambda **inputs: naive.axial_attention(**inputs, **options),
    )  # fmt: skip


LAYERS = {form: lambda form=form, **options: EdgeAttention(5, H * C, H, form, **options) for form in TRIANGLE_FORMS}
LAYERS |= {
    "pair": lambda **options: EdgePairAttention(5, H * C, H, **options),
    "axial": lambda **options: EdgeAxialAttention(5, H * C, H, **options),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_over_batches(device, dtype, name, causal):
    first = edges()
    inputs = {
        "edge_attr": torch.randn(40, 5, dtype=torch.float64), "edge_index": torch.cat([first, first.flip(0) + N], 1),
        "batch": torch.arange(2 * N) // N, "time": torch.randperm(2 * N),
    }  # fmt: skip
    layer = LAYERS[name](causal=causal)
    assert_precise(lambda layer, **inputs: layer(**inputs), inputs, device, dtype, module=layer, times=16)


@pytest.mark.parametrize("causal", [False, True])
def test_the_quartic_layer(device, dtype, causal):
    layer = QuarticLayer(8, 4, heads=H, forms=("factored", "product", "pair"), causal=causal)
    inputs = {"x": torch.randn(N, 8, dtype=torch.float64), "edge_index": edges(), "edge_attr": rows(4)}
    inputs |= {"time": torch.randperm(N)}

    def run(layer, **inputs):
        return torch.cat([part.flatten() for part in layer(**inputs)])

    assert_precise(run, inputs, device, dtype, module=layer, times=16)


def test_routing(device):
    score, mask = torch.randn(9, 12, dtype=torch.float64), torch.rand(9, 12) < 0.8
    inputs = {"score": score, "mask": mask}
    assert_precise(
        lambda **inputs: soft_topk(k=3, temperature=0.5, **inputs), inputs, device, torch.float32,
        expected=lambda **inputs: naive_routing.soft_topk(k=3, temperature=0.5, **inputs), times=16,
    )  # fmt: skip
    edge_index, weight, time = edges(), torch.randn(20), torch.randperm(N)
    chosen, gates = route_edges(weight.to(device), edge_index.to(device), N, 2, time=time.to(device))
    assert chosen.tolist() == naive_routing.route_edges(weight, edge_index, N, 2, time=time)
    assert torch.equal(gates, torch.ones_like(gates))
