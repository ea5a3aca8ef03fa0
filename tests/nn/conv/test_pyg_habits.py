"""What a user of PyG does to a convolution: every kind of adjacency, types of nodes, copies, compilers, devices."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, Sequential, summary, to_hetero
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor
from torch_geometric.utils import to_torch_csc_tensor, to_torch_csr_tensor

from tmt_geo import DynamicMeshAttention, Mesh, MeshAttention
from tmt_geo.testing import assert_grads_close

N, E = 9, 24


def graph():
    """Node 8 has no edges; edges are all different and come in PyG's order of rows, then columns."""
    edge_index = torch.unique(torch.randint(N - 1, (2, E)), dim=1).contiguous()
    return torch.randn(N, 5), edge_index


def adjacencies(edge_index):
    target = edge_index[1]
    yield to_torch_csr_tensor(edge_index.flip(0), size=(N, N))
    yield to_torch_csc_tensor(edge_index.flip(0), size=(N, N))
    yield torch.sparse_coo_tensor(edge_index.flip(0), torch.ones(edge_index.size(1)), (N, N))
    yield to_torch_csc_tensor(edge_index, size=(N, N)).t()
    yield EdgeIndex(edge_index, sparse_size=(N, N), sort_order="row")
    by_target = edge_index[:, target.argsort(stable=True)]
    yield EdgeIndex(by_target.contiguous(), sparse_size=(N, N), sort_order="col")
    yield edge_index.int()


@pytest.mark.parametrize("options", [{}, {"add_self_loops": False}, {"decay": "log", "causal": True}], ids=str)
def test_every_kind_of_adjacency(options):
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2, **options), graph()
    time = torch.randint(5, (N,)) if "causal" in options else None
    expected, (edges, alpha) = conv(x, edge_index, time=time, return_attention_weights=True)
    weights = dict(zip(map(tuple, edges.t().tolist()), alpha.tolist(), strict=True))
    for adjacency in adjacencies(edge_index):
        out, (edges, alpha) = conv(x, adjacency, time=time, return_attention_weights=True)
        torch.testing.assert_close(out, expected)
        assert type(edges) is torch.Tensor and not edges.is_sparse and edges.dtype == torch.long
        for edge, weight in zip(map(tuple, edges.t().tolist()), alpha.tolist(), strict=True):
            assert weight == pytest.approx(weights[edge], abs=1e-6)
        assert len(weights) == alpha.size(0)


@pytest.mark.skipif(not WITH_TORCH_SPARSE, reason="torch-sparse, of which PyG takes SparseTensor, is not installed")
@pytest.mark.parametrize("loops", [False, True])
def test_a_sparse_tensor(loops):
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2, add_self_loops=loops), graph()
    adjacency = SparseTensor.from_edge_index(edge_index, sparse_sizes=(N, N)).t()
    torch.testing.assert_close(conv(x, adjacency), conv(x, edge_index))
    pair = MeshAttention((5, 3), 4, add_self_loops=False)
    rows, part = (x, torch.randn(4, 3)), edge_index[:, edge_index[1] < 4]
    adjacency = SparseTensor.from_edge_index(part, sparse_sizes=(N, 4)).t()
    torch.testing.assert_close(pair(rows, adjacency), pair(rows, part))


def test_isolated_nodes_have_their_own_value_or_zero():
    x, edge_index = graph()
    conv = MeshAttention(5, 4, heads=2)
    torch.testing.assert_close(conv(x, edge_index)[8], conv.lin_value(x[8]))
    torch.testing.assert_close(conv(x, edge_index[:, :0]), conv.lin_value(x))
    bare = MeshAttention(5, 4, heads=2, add_self_loops=False)
    assert (bare(x, edge_index)[8] == 0).all() and (bare(x, edge_index[:, :0]) == 0).all()
    assert bare(x[:0], edge_index[:, :0]).shape == (0, 8)


def test_self_loops_of_the_input_count_once():
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2), graph()
    without = edge_index[:, edge_index[0] != edge_index[1]]
    twice = torch.cat([without, torch.tensor([[2, 2, 3], [2, 2, 3]])], dim=1)
    torch.testing.assert_close(conv(x, twice), conv(x, without))
    bare = MeshAttention(5, 4, heads=2, add_self_loops=False)
    assert not torch.allclose(bare(x, twice)[2], bare(x, without)[2])


def test_concat_or_the_mean_of_the_heads():
    joined, (x, edge_index) = MeshAttention(5, 4, heads=3), graph()
    mean = MeshAttention(5, 4, heads=3, concat=False)
    mean.load_state_dict(joined.state_dict())
    torch.testing.assert_close(mean(x, edge_index), joined(x, edge_index).view(N, 3, 4).mean(1))


@pytest.mark.parametrize("make", [partial(MeshAttention, edge_dim=3), partial(DynamicMeshAttention, k=3)])
def test_reset_parameters_reaches_every_parameter(make):
    conv = make(5, 4, heads=2, decay="log", residual=True)
    with torch.no_grad():
        for value in conv.parameters():
            value.fill_(7.0)
    conv.reset_parameters()
    for name, value in conv.named_parameters():
        assert not (value == 7.0).any(), name


@pytest.mark.parametrize("in_channels", [5, -1, (5, 5), (-1, -1)], ids=str)
def test_a_saved_state_is_read_bit_by_bit(in_channels):
    x, edge_index = graph()
    conv = MeshAttention(in_channels, 4, heads=2, decay="log")
    expected = conv((x, x), edge_index, time=torch.arange(N))
    file = io.BytesIO()
    torch.save(conv.state_dict(), file)
    file.seek(0)
    other = MeshAttention(in_channels, 4, heads=2, decay="log")
    other.load_state_dict(torch.load(file))
    assert torch.equal(other((x, x), edge_index, time=torch.arange(N)), expected)
    assert str(other) == f"MeshAttention({in_channels}, 4, heads=2)"


@pytest.mark.parametrize(
    "make", [copy.deepcopy, lambda conv: pickle.loads(pickle.dumps(conv))], ids=["copy", "pickle"]
)
def test_copies_are_their_own(make):
    x, edge_index = graph()
    conv = MeshAttention(5, 4, heads=2, edge_dim=3)
    edge_attr = torch.randn(edge_index.size(1), 3)
    expected = conv(x, edge_index, edge_attr=edge_attr)
    twin = make(conv)
    torch.nn.init.zeros_(conv.lin_value.weight)
    assert torch.equal(twin(x, edge_index, edge_attr=edge_attr), expected)
    found = make(DynamicMeshAttention(5, 4, k=2))
    assert found(x).shape == (N, 4)


@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
@pytest.mark.parametrize("options", [{}, {"decay": "log", "causal": True}, {"add_self_loops": False}], ids=str)
def test_flow_the_other_way_round(messages, options):
    there, (x, edge_index) = MeshAttention((5, 3), 4, heads=2, **options), graph()
    back = MeshAttention((5, 3), 4, heads=2, flow="target_to_source", **options)
    back.load_state_dict(there.state_dict())
    if messages:
        back.register_message_forward_hook(lambda module, inputs, out: None)
    edge_index = edge_index[:, edge_index[1] < 6]
    x, time = (x, torch.randn(6, 3)), (torch.rand(N), torch.rand(6))
    expected, (edges, alpha) = there(x, edge_index, time=time, return_attention_weights=True)
    out, (flipped, same) = back(x, edge_index.flip(0), time=time, return_attention_weights=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(same, alpha)
    assert torch.equal(flipped, edges.flip(0))


def test_against_the_flow_there_is_no_sparse_matrix():
    x, edge_index = graph()
    with pytest.raises(ValueError, match=r"'edge_index' .*\(got 'target_to_source'\)"):
        MeshAttention(5, 4, flow="target_to_source")(x, to_torch_csr_tensor(edge_index, size=(N, N)))


def two_types():
    data = HeteroData()
    data["paper"].x, data["author"].x = torch.randn(6, 5), torch.randn(4, 3)
    data["paper"].time, data["author"].time = torch.rand(6), torch.rand(4)
    data["paper", "cites", "paper"].edge_index = torch.randint(6, (2, 12))
    data["author", "writes", "paper"].edge_index = torch.stack([torch.randint(4, (9,)), torch.randint(6, (9,))])
    data["paper", "written_by", "author"].edge_index = data["author", "writes", "paper"].edge_index.flip(0)
    for edge_type in data.edge_types:
        data[edge_type].edge_time = torch.rand(data[edge_type].num_edges)
    return data


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        options = {"heads": 2, "add_self_loops": False, "decay": "log", "causal": True}
        self.conv1 = MeshAttention((-1, -1), 4, **options)
        self.conv2 = MeshAttention((-1, -1), 3, **options)

    def forward(self, x, edge_index, time, edge_time):
        x = self.conv1(x, edge_index, time=time, edge_time=edge_time).relu()
        return self.conv2(x, edge_index, time=time, edge_time=edge_time)


def ends(of_types, edge_type):
    """What sources and targets of these edges have; one thing, if they are of one type."""
    source, _, target = edge_type
    return of_types[source] if source == target else (of_types[source], of_types[target])


def by_hand(convs, x, data):
    """The sum over edge types of the outputs of each type's convolution."""
    out = {}
    for edge_type in data.edge_types:
        conv, edges = convs["__".join(edge_type)], data[edge_type]
        time = ends(data.time_dict, edge_type)
        message = conv(ends(x, edge_type), edges.edge_index, time=time, edge_time=edges.edge_time)
        out[edge_type[2]] = out.get(edge_type[2], 0) + message
    return out


def test_to_hetero_is_a_convolution_for_each_type_of_edge():
    data = two_types()
    model = to_hetero(Net(), data.metadata(), aggr="sum")
    out = model(data.x_dict, data.edge_index_dict, data.time_dict, data.edge_time_dict)
    hidden = {name: part.relu() for name, part in by_hand(model.conv1, data.x_dict, data).items()}
    expected = by_hand(model.conv2, hidden, data)
    assert out.keys() == expected.keys() == {"paper", "author"}
    for name in expected:
        torch.testing.assert_close(out[name], expected[name])
        assert out[name].abs().sum() > 0


def test_hetero_conv():
    data = two_types()
    options = {"add_self_loops": False, "decay": "log"}
    model = HeteroConv({edge_type: MeshAttention((-1, -1), 4, **options) for edge_type in data.edge_types}, aggr="sum")
    times = {"time_dict": data.time_dict, "edge_time_dict": data.edge_time_dict}
    out = model(data.x_dict, data.edge_index_dict, **times)
    convs = {"__".join(edge_type): model.convs[edge_type] for edge_type in data.edge_types}
    for name, expected in by_hand(convs, data.x_dict, data).items():
        torch.testing.assert_close(out[name], expected)


def in_sequence():
    return Sequential("x, edge_index, edge_attr", [
        (MeshAttention(5, 4, heads=2, edge_dim=3), "x, edge_index, edge_attr -> x"),
        torch.nn.ReLU(),
        (MeshAttention(8, 3), "x, edge_index -> x"),
    ])  # fmt: skip


def test_sequential():
    (x, edge_index), model = graph(), in_sequence()
    edge_attr = torch.randn(edge_index.size(1), 3)
    expected = model[2](model[0](x, edge_index, edge_attr=edge_attr).relu(), edge_index)
    assert torch.equal(model(x, edge_index, edge_attr), expected)


def test_summary():
    pytest.importorskip("tabulate", reason="PyG's summary needs tabulate")
    x, edge_index = graph()
    table = summary(in_sequence(), x, edge_index, torch.randn(edge_index.size(1), 3))
    assert table.count("MeshAttention") == 2 and f"[{N}, 8]" in table and f"[{N}, 3]" in table


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, ()),
        ({"add_self_loops": False}, ()),
        ({"decay": "log"}, ("time",)),
        ({"causal": True, "decay": "published"}, ("time",)),
        ({"causal": True, "edge_dim": 3, "decay": "log"}, ("time", "edge_attr", "edge_time")),
    ],
    ids=str,
)
def test_compiles_as_one_graph(options, given):
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2, **options), graph()
    assert (edge_index[0] == edge_index[1]).any()
    num_edges = edge_index.size(1)
    parts = {"time": torch.rand(N), "edge_attr": torch.randn(num_edges, 3), "edge_time": torch.rand(num_edges)}
    call = {name: parts[name] for name in given}
    x.requires_grad_()
    torch.compiler.reset()  # other tests have compiled the same code for other options
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    inputs = {"x": x, **dict(conv.named_parameters())}
    assert_grads_close(compiled(x, edge_index, **call), conv(x, edge_index, **call), inputs, atol=1e-5)


@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
@pytest.mark.parametrize("decay", [None, "log", "published"])
def test_types_of_numbers(messages, decay):
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2, decay=decay), graph()
    if messages:
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    time = torch.arange(N)
    single = conv(x, edge_index, time=time)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = conv(x, edge_index, time=time)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), single, rtol=0.05, atol=0.05)
    half.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in conv.parameters() if p.grad is not None)
    double = conv.double()(x.double(), edge_index, time=time)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("messages", [False, True], ids=["fused", "messages"])
def test_a_gpu_gives_the_same(messages):
    conv, (x, edge_index) = MeshAttention(5, 4, heads=2, decay="log", causal=True), graph()
    if messages:
        conv.register_message_forward_hook(lambda module, inputs, out: None)
    time, edge_time = torch.rand(N), torch.rand(edge_index.size(1))
    expected = conv(x, edge_index, time=time, edge_time=edge_time)
    there = [part.cuda() for part in (x, edge_index, time)]
    out = conv.cuda()(*there[:2], time=there[2], edge_time=edge_time.cuda())
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="'time'"):
        conv(*there[:2], time=time, edge_time=edge_time.cuda())


@pytest.mark.parametrize("name", ["x", "edge_index", "mesh", "time", "edge_attr", "edge_time"])
def test_an_input_on_another_device_is_named(name):
    x, edge_index = graph()
    num_edges = edge_index.size(1)
    call = {
        "x": (x, x), "edge_index": edge_index, "time": torch.zeros(N),
        "edge_attr": torch.zeros(num_edges, 3), "edge_time": torch.zeros(num_edges),
    }  # fmt: skip
    if name == "mesh":
        name = "edge_index"
        call = {"x": x, name: Mesh.from_edge_index(edge_index, N).to("meta")}
    else:
        call[name] = (x, x.to("meta")) if name == "x" else call[name].to("meta")
    with pytest.raises(ValueError, match=rf"'{name}' .*\(got meta\)"):
        MeshAttention(5, 4, edge_dim=3 if "edge_attr" in call else None)(**call)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("'edge_index'", {"edge_index": torch.tensor([[0], [N]])}),
        ("'edge_index'", {"edge_index": torch.tensor([[-1], [0]])}),
        ("'edge_index'", {"edge_index": torch.tensor([[0.0], [1.0]])}),
        ("'edge_index'", {"edge_index": torch.zeros(3, 4, dtype=torch.long)}),
        ("'edge_index'", {"edge_index": [[0], [1]]}),
        ("'edge_index'", {"edge_index": torch.eye(N + 1).to_sparse_csr()}),
        ("'time'", {"time": torch.zeros(N, 1)}),
        ("'time'", {"time": (torch.zeros(N), torch.zeros(N))}),
        ("'x'", {"x": (torch.zeros(N, 5), None)}),
        ("'edge_attr'", {"edge_attr": torch.zeros(2, 3)}),
    ],
)
def test_bad_input_is_named(argument, call):
    x, edge_index = graph()
    edge_dim = 3 if "edge_attr" in call else None
    with pytest.raises(ValueError, match=rf"{argument} .*\(got "):
        MeshAttention(5, 4, edge_dim=edge_dim)(**{"x": x, "edge_index": edge_index, **call})


def test_features_that_are_not_finite_have_no_neighbors():
    x, _ = graph()
    x[3, 1] = float("nan")
    with pytest.raises(ValueError, match="'x' must be finite"):
        DynamicMeshAttention(5, 4, k=2)(x)
