import pytest
import torch

from tmt_geo.evaluate.triangle_flow import FiredTriangles, triangle_flow, watch_triangles
from tmt_geo.nn import EdgeAttention, QuarticLayer

FULL = torch.cartesian_prod(torch.arange(5), torch.arange(5)).t()


@pytest.mark.parametrize("form", ["factored", "product", "pivot"])
@pytest.mark.parametrize("options", [{}, {"null_slot": True, "causal": True}], ids=str)
def test_weights_are_those_by_which_values_are_summed(form, options):
    """With one channel a head, legs of value 1 and the identity behind it, the output is the sum of the shares."""
    layer = EdgeAttention(6, 2, heads=2, form=form, **options).double()
    edge_index = FULL[:, torch.randperm(25)[:20]]
    e, time = torch.randn(20, 6, dtype=torch.float64), torch.randperm(5)
    found, share = layer.triangle_weights(e, edge_index, time=time)
    with torch.no_grad():
        layer.lin_value.weight.zero_()
        layer.lin_value.bias.fill_(0.5 if form == "pivot" else 1.0)
        layer.lin_out.weight.copy_(torch.eye(2))
        layer.lin_out.bias.zero_()
    torch.testing.assert_close(
        torch.zeros(20, 2).double().index_add(0, found[0], share), layer(e, edge_index, time=time)
    )
    source, target = edge_index
    closing, first, second = found
    assert (source[closing] == source[first]).all() and (target[closing] == target[second]).all()
    assert (target[first] == source[second]).all()


def test_every_call_is_watched_in_turn_and_the_gated_form_has_no_weights():
    layers = torch.nn.ModuleList([QuarticLayer(4, 4, 2, ("factored", "gated", "product")) for _ in range(2)])
    x, e = torch.randn(5, 4), None
    with watch_triangles(layers) as calls:
        for layer in layers:
            x, e = layer(x, FULL, e)
    assert len(calls) == 4 and all(call.edge_index is FULL for call in calls)
    assert all(call.triangles.shape == (3, 125) and call.weight.shape == (125,) for call in calls)
    for call in calls:
        torch.testing.assert_close(torch.zeros(25).index_add(0, call.triangles[0], call.weight), torch.ones(25))
    layers[0](torch.randn(5, 4), FULL)
    assert len(calls) == 4
    with pytest.raises(ValueError, match=r"'form' must be factored, product or pivot, .*\(got 'gated'\)"):
        layers[0].edge_block.attentions[1].triangle_weights(None, FULL)


def test_an_edge_is_followed_back_through_its_legs():
    """0 to 3 by 2, and 0 to 2 by 1: the last call halves between the legs, the first follows one of them."""
    edge_index = torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 2, 3, 3]])
    last = FiredTriangles(edge_index, torch.tensor([[2], [1], [4]]), torch.tensor([1.0]))
    both = torch.tensor([[1, 4, 2], [0, 4, 2], [3, 5, 5]])
    first = FiredTriangles(edge_index, both, torch.tensor([0.5, 1.0, 1.0]))
    flows = triangle_flow([first, last], edge=2)
    assert flows[1].tolist() == [1.0] and flows[0].tolist() == [0.25, 0.5, 0.0]
    for calls, edge, message in (([], 0, "'calls' needs"), ([last], 6, r"'edge' must lie in \[0, 6\) \(got 6\)")):
        with pytest.raises(ValueError, match=message):
            triangle_flow(calls, edge)
