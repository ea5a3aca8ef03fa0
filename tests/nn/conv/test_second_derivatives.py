"""Gradients of gradients: finite differences of every path, and a gradient penalty against PyG's own convolution."""

import pytest
import torch
import torch_geometric.typing
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_geometric.nn import TransformerConv

from tmt_geo import Mesh, MeshAttention, TMTLayer
from tmt_geo.ops.mesh_attention import table_attention
from tmt_geo.testing.tiny import parts

N = 5
# Two edges twice, node 0 is no target, and the targets are in no order.
EDGES = torch.tensor([[0, 0, 1, 0, 2, 3, 3, 1], [4, 1, 2, 3, 3, 4, 4, 2]])
SCATTER = pytest.param(True, marks=pytest.mark.skipif(
    not torch_geometric.typing.WITH_TORCH_SCATTER, reason="torch-scatter is not installed"))  # fmt: skip


@pytest.fixture(params=[SCATTER, False], ids=["torch-scatter", "torch"])
def extension(request, monkeypatch):
    """With torch-scatter and without."""
    monkeypatch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", request.param)


def assert_second_derivatives(module, x, *args, **kwargs):
    """Hold those with respect to features and parameters to finite differences of the first ones."""
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    leaves = [x, *(module.get_parameter(name) for name in names)]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]

    def run(x, *values):
        return functional_call(module, dict(zip(names, values, strict=True)), (x, *args), kwargs)

    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


def features(channels=3):
    return torch.randn(N, channels, dtype=torch.float64)


OPTIONS = {
    "plain": {},
    "mean of heads": {"concat": False},
    "no loops": {"add_self_loops": False},
    "log": {"decay": "log", "causal": True},
    "published": {"decay": "published"},
    "latent": {"latent": True},
    "residual": {"residual": True, "bias": False},
}


@pytest.mark.parametrize("given", ["edges", "messages", "mesh"])
@pytest.mark.parametrize("name", OPTIONS)
def test_of_the_convolution(name, given, extension):
    conv = MeshAttention(3, 2, heads=2, **OPTIONS[name]).double()
    if given == "messages":
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    graph = Mesh.from_edge_index(EDGES, N) if given == "mesh" else EDGES
    assert_second_derivatives(conv, features(), graph, time=torch.rand(N, dtype=torch.float64).sort().values)


def test_with_features_of_edges(extension):
    conv = MeshAttention(3, 2, heads=2, edge_dim=2).double()
    edge_attr = torch.randn(EDGES.size(1), 2, dtype=torch.float64, requires_grad=True)
    assert_second_derivatives(conv, features(), EDGES, edge_attr=edge_attr)
    x = features()
    assert torch.autograd.gradgradcheck(lambda attr: conv(x, EDGES, edge_attr=attr), edge_attr)


@pytest.mark.parametrize("rows", [N, 40], ids=["rows", "gathered"])
def test_of_a_table(rows):
    """A table smaller than its sources is gathered edge by edge."""
    query, own = (torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    key, value = (torch.randn(rows, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    share, bias = (torch.rand(*size, dtype=torch.float64, requires_grad=True) for size in ((1, 2), (2, 4, 2)))
    table = torch.tensor([[3, 1, 1], [0, 4, 2]])
    mask = torch.tensor([[True, True, True], [True, True, False]])

    def run(query, key, value, own, share, bias):
        pair = (own[:, :1], own[:, 1:])
        return table_attention(query, key, value, table, mask, self_kv=pair, shift_weight=(share, share), bias=bias)

    assert torch.autograd.gradgradcheck(run, (query, key, value, own, share, bias))


@pytest.mark.parametrize(
    "options", [{}, {"mesh": False}, {"mesh": False, "decay": "log"}, {"shift": True, "rotary": True, "window": 1},
                {"memory_anchors": 2, "gated_heads": True, "gated_streams": True}], ids=str,
)  # fmt: skip
def test_of_a_layer(options):
    """Torch has no second derivative of its fused attention on a CPU and raises; it has one of the plain attention."""
    layer = TMTLayer(4, heads=2, **parts(4, k=2, **options)).double().eval()
    with sdpa_kernel(SDPBackend.MATH):
        assert_second_derivatives(layer, features(4))


@pytest.mark.parametrize("concat", [True, False])
@pytest.mark.parametrize("edge_dim", [None, 2])
def test_a_gradient_penalty_is_that_of_pyg(edge_dim, concat, extension):
    options = {"heads": 3, "edge_dim": edge_dim, "concat": concat}
    conv = MeshAttention(4, 2, add_self_loops=False, **options).double()
    twin = TransformerConv(4, 2, root_weight=False, **options).double()
    assert twin.load_state_dict(conv.state_dict(), strict=False).unexpected_keys == []
    x, parts = features(4), {} if edge_dim is None else {"edge_attr": torch.randn(8, 2, dtype=torch.float64)}
    found = []
    for module in (conv, twin):
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(module(leaf, EDGES, **parts).square().sum(), leaf, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        weights = [module.get_parameter(name) for name, _ in conv.named_parameters()]
        found.append([penalty, *torch.autograd.grad(penalty, weights)])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
