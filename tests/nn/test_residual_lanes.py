import pytest
import torch
from torch import nn

from tmt_geo.nn.residual_lanes import HyperConnection, Residual, join_lanes, residual_connection, split_lanes

F, N = 5, 3


def step(connection, lanes, branch):
    x, lanes, share = connection(lanes)
    return lanes + share * branch(x).unsqueeze(-2)


def stirred(connection):
    with torch.no_grad():
        for parameter in connection.parameters():
            parameter.add_(torch.randn_like(parameter))
    return connection


def test_it_is_its_formula_lane_by_lane():
    connection, branch = stirred(HyperConnection(F, N, 1).double()), nn.Linear(F, F).double()
    lanes = torch.randn(2, 4, N, F, dtype=torch.float64)
    out = step(connection, lanes, branch)
    static, dynamic = connection.mix, connection.dynamic
    for place in [(b, s) for b in range(2) for s in range(4)]:
        h = lanes[place]
        normed = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5) ** 0.5
        normed = normed * connection.norm.weight + connection.norm.bias
        weight = [[torch.tanh((normed[i] * dynamic[r]).sum()) for r in range(N + 2)] for i in range(N)]
        read = sum((static[i, 0] + connection.scale[0] * weight[i][0]) * h[i] for i in range(N))
        made = branch(read)
        for k in range(N):
            kept = sum((static[i, 1 + k] + connection.scale[0] * weight[i][1 + k]) * h[i] for i in range(N))
            share = connection.share[k] + connection.scale[1] * weight[k][-1]
            torch.testing.assert_close(out[(*place, k)], kept + share * made)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_it_starts_as_the_plain_residual_connection(lanes):
    x, branches = torch.randn(2, 4, F), [nn.Linear(F, F) for _ in range(5)]
    state, expected = split_lanes(x, lanes), x
    for index, branch in enumerate(branches):
        connection = residual_connection(F, lanes, index)
        assert isinstance(connection, HyperConnection if lanes > 1 else Residual)
        state, expected = step(connection, state, branch), expected + branch(expected)
    torch.testing.assert_close(join_lanes(state) / lanes, expected)


def test_branches_read_one_lane_after_the_other():
    lanes = torch.randn(2, N, F)
    for index in range(2 * N):
        torch.testing.assert_close(HyperConnection(F, N, index)(lanes)[0], lanes[:, index % N])


def test_every_parameter_learns_and_is_drawn_anew():
    connection, lanes = HyperConnection(F, N), torch.randn(4, N, F)
    first = {name: value.clone() for name, value in connection.state_dict().items()}
    step(stirred(connection), lanes, nn.Linear(F, F)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in connection.parameters())
    connection.reset_parameters()
    assert all(torch.equal(value, first[name]) for name, value in connection.state_dict().items())


def test_gradients():
    connection = stirred(HyperConnection(3, 2).double())
    lanes = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(connection, lanes)


def test_sizes():
    assert repr(HyperConnection(F, N)) == f"HyperConnection({F}, num_lanes={N})"
    with pytest.raises(ValueError, match=r"'num_lanes' must be at least 1 \(got 0\)$"):
        HyperConnection(F, 0)
