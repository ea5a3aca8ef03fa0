"""Autocast takes products in a small type; sums of exponentials and of many rows must not suffer."""

import pytest
import torch

from tmt_geo.nn import EdgeAttention, EdgeAxialAttention
from tmt_geo.ops.edge_attention import triangle_attention

FULL = torch.cartesian_prod(torch.arange(24), torch.arange(24)).t()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spread", [1.0, 4.0, 12.0])
def test_products_of_exponentials_are_taken_in_full(dtype, spread):
    values = tuple(torch.randn(576, 2, 8) for _ in range(2))
    scores = tuple((spread * torch.randn(576, 2)).requires_grad_() for _ in range(2))
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype, enabled=enabled):
            out = triangle_attention(values, scores, FULL, 24, path="dense")
        results.append((out, *torch.autograd.grad(out.float().sum(), scores)))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layer", [EdgeAttention(16, 16), EdgeAxialAttention(16, 16, linear=True)], ids=str)
def test_a_layer_is_as_near_as_its_projections(layer, dtype):
    edges = 6000  # a star, whose rows are summed
    star = torch.stack([torch.zeros(edges, dtype=torch.long), torch.arange(edges)])
    edge_index, x = (
        (FULL, torch.randn(576, 16)) if isinstance(layer, EdgeAttention) else (star, torch.randn(edges, 16))
    )
    expected = layer(x, edge_index).detach()
    with torch.autocast("cpu", dtype):
        out = layer(x, edge_index).detach()
    assert float((out - expected).norm() / expected.norm()) < 8 * torch.finfo(dtype).eps
