import pytest
import torch
from torch_geometric.nn.dense.linear import Linear

from tmt_geo import MeshAttention
from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.testing import assert_grads_close


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [0, 3, 50])
def test_value_and_every_gradient_are_those_of_the_maps(rows, bias):
    maps = [Linear(4, out, bias=bias).double() for out in (6, 3, 5)]
    x = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    together, apart = joint_linear(x, *maps), [lin(x) for lin in maps]
    parameters = {f"{i}.{name}": p for i, lin in enumerate(maps) for name, p in lin.named_parameters()}
    if rows:
        assert_grads_close(torch.cat(together, 1), torch.cat(apart, 1), {"x": x, **parameters})
    for got, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(got, expected)


def test_an_adapter_is_not_passed_by():
    """Whatever stands in the place of a map, or listens to it, is called."""

    class Adapter(torch.nn.Module):
        def __init__(self, lin):
            super().__init__()
            self.lin = lin

        def forward(self, x):
            return self.lin(x) + 1

    conv, x = MeshAttention(3, 2, heads=2), torch.randn(40, 3)
    edges = torch.stack([torch.arange(39), torch.arange(1, 40)])
    plain = conv(x, edges)
    handle = conv.lin_value.register_forward_hook(lambda module, inputs, out: out + 1)
    torch.testing.assert_close(conv(x, edges), plain + 1)
    handle.remove()
    conv.lin_value = Adapter(conv.lin_value)
    torch.testing.assert_close(conv(x, edges), plain + 1)
