import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils import parametrizations, prune
from torch_geometric.nn.dense.linear import Linear

from tmt_geo import MeshAttention
from tmt_geo.nn.joint_linear import joint_linear
from tmt_geo.testing import assert_grads_close


@pytest.mark.parametrize("kind", [Linear, nn.Linear])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [0, 3, 50])
def test_value_and_every_gradient_are_those_of_the_maps(rows, bias, kind):
    maps = [kind(4, out, bias=bias).double() for out in (6, 3, 5)]
    x = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    together, apart = joint_linear(x, *maps), [lin(x) for lin in maps]
    parameters = {f"{i}.{name}": p for i, lin in enumerate(maps) for name, p in lin.named_parameters()}
    if rows:
        assert_grads_close(torch.cat(together, 1), torch.cat(apart, 1), {"x": x, **parameters})
    for got, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(got, expected)


def test_an_adapter_is_not_passed_by():
    """A module in the place of a map is called, and so is a hook on a map."""

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


def offloaded(lin):
    """As accelerate does it: the weights are elsewhere, and the instance has a forward of its own that brings them."""
    weight, lin.weight = lin.weight, nn.Parameter(torch.zeros_like(lin.weight))
    lin.forward = lambda x: nn.functional.linear(x, 2 * weight, lin.bias)


class Halves(torch.Tensor):
    """A weight of a type of its own, as of a library of quantisation, that doubles where it is multiplied."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        args = [2 * arg.as_subclass(torch.Tensor) if isinstance(arg, Halves) else arg for arg in args]
        assert func is not torch.cat, "its parts were put together"
        return func(*args, **(kwargs or {}))


def subclassed(lin):
    weight = lin.weight.data.as_subclass(Halves)
    del lin.weight
    lin.weight = weight


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


CHANGES = {
    "own class": lambda lin: setattr(lin, "__class__", Doubled),
    "backward hook": lambda lin: lin.register_full_backward_hook(lambda module, into, out: (2 * into[0],)),
    "pre hook": lambda lin: lin.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
    "parametrisation": parametrizations.weight_norm,
    "pruning": lambda lin: prune.l1_unstructured(lin, "weight", amount=0.5),
    "offloading": offloaded,
    "subclass": subclassed,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_plain_is_called(change):
    maps = [nn.Linear(4, 3), nn.Linear(4, 5)]
    plain = [lin(torch.ones(1, 4)) for lin in maps]
    CHANGES[change](maps[1])
    x = torch.ones(40, 4, requires_grad=True)
    out = joint_linear(x, *maps)
    expected = [lin(x) for lin in maps]
    for got, wanted in zip(out, expected, strict=True):
        torch.testing.assert_close(got, wanted)
    if change in ("own class", "pre hook", "pruning", "offloading", "subclass"):
        assert not torch.allclose(out[1][:1], plain[1])
    torch.testing.assert_close(*(torch.autograd.grad(sum(o.sum() for o in way), x)[0] for way in (out, expected)))


@pytest.mark.parametrize(("rows", "dynamic", "products"), [(2, False, 2), (20, False, 1), (2, True, 1)])
def test_a_compiler_puts_maps_together_where_rows_are_many_or_any_number(rows, dynamic, products):
    counter = CompileCounterWithBackend("eager")
    maps = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 3)])
    x = torch.randn(rows, 4)
    together = torch.compile(lambda x: joint_linear(x, *maps), backend=counter, dynamic=dynamic, fullgraph=True)(x)
    for got, lin in zip(together, maps, strict=True):
        torch.testing.assert_close(got, lin(x))
    names = [node.target.__name__ for node in counter.graphs[0].graph.nodes if callable(node.target)]
    assert names.count("linear") == products
