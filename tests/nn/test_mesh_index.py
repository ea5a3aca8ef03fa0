import math

import pytest
import torch

from tmt_geo import knn_graph
from tmt_geo.nn.mesh_index import MeshIndex


def edges(n=9, k=4, heads=2):
    table = torch.stack([torch.randperm(n)[:k] for _ in range(n)])
    mask = torch.rand(n, k) < 0.7
    mask[2] = False  # hears nobody
    return table, mask, torch.rand(n, k, heads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_is_its_formula(dtype):
    index = MeshIndex(6, 3, learned=True).to(dtype)
    x, (table, mask, attention) = torch.randn(9, 6, dtype=dtype), edges()
    attention = attention.to(dtype)
    z = index(x).detach()
    expected = 0.0
    for i in range(9):
        chosen = [(int(table[i, j]), float(attention[i, j].mean())) for j in range(4) if mask[i, j]]
        total = sum(weight for _, weight in chosen)
        scores = [float(z[i] @ z[j] / (z[i].norm() * z[j].norm())) / index.temperature for j, _ in chosen]
        norm = math.log(sum(math.exp(score) for score in scores)) if scores else 0.0
        for (_, weight), score in zip(chosen, scores, strict=True):
            expected += weight / total * (math.log(weight / total) - (score - norm))
    atol = 1e-4 if dtype == torch.float32 else 1e-10
    loss = index.loss(z, z, table, mask, attention)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=dtype), rtol=0, atol=atol)


def test_the_loss_trains_the_projection_alone():
    index = MeshIndex(6, 3, learned=True)
    x = torch.randn(9, 6, requires_grad=True)
    table, mask, attention = edges()
    attention.requires_grad_()
    z = index(x)
    loss = index.loss(z, z, table, mask, attention)
    assert torch.autograd.grad(loss, [x, attention], allow_unused=True, retain_graph=True) == (None, None)
    loss.backward()
    assert index.weight.grad.abs().max() > 0
    weight = index.weight.detach().double().requires_grad_()
    twin = MeshIndex(6, 3, learned=True).double()

    def value(weight):
        z = torch.nn.functional.linear(x.detach().double(), weight)
        return twin.loss(z, z, table, mask, attention.double())

    assert torch.autograd.gradcheck(value, weight)


def test_it_learns_what_attention_looks_at():
    # Attention follows two of sixteen channels, and the others say nothing.
    x = torch.randn(200, 16)
    x[:, 2:] *= 3
    useful = torch.nn.functional.normalize(x[:, :2], dim=-1)
    favourite = (useful @ useful.T - 2 * torch.eye(200)).argmax(1)
    index = MeshIndex(16, 2, learned=True)
    optimizer = torch.optim.Adam(index.parameters(), lr=0.05)

    def recall():
        table = knn_graph(index(x), 20, metric="cosine").table
        return float((table == favourite.unsqueeze(1)).any(1).float().mean())

    losses, before = [], recall()
    for _ in range(100):
        table, mask = torch.randint(200, (200, 12)), torch.ones(200, 12, dtype=torch.bool)
        attention = ((useful.unsqueeze(1) * useful[table]).sum(-1) / index.temperature).softmax(1).unsqueeze(-1)
        z = index(x)
        loss = index.loss(z, z, table, mask, attention)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    assert recall() > 0.9 > 0.5 > before


def test_a_fixed_projection_is_saved_and_has_no_parameters():
    index = MeshIndex(8, 3)
    assert not list(index.parameters()) and not index(torch.randn(4, 8, requires_grad=True)).requires_grad
    torch.testing.assert_close(index.weight @ index.weight.T, torch.eye(3))
    twin = MeshIndex(8, 3)
    assert not torch.equal(twin.weight, index.weight)
    twin.load_state_dict(index.state_dict())
    assert torch.equal(twin.weight, index.weight)
    twin.reset_parameters()
    assert not torch.equal(twin.weight, index.weight)


def test_at_full_width_the_neighbours_stay():
    x = torch.randn(60, 8, dtype=torch.float64)
    index = MeshIndex(8, 8).double()
    near = [knn_graph(features, 3, metric="cosine").table for features in (index(x), x)]
    assert torch.equal(*near)


def test_nobody_who_hears():
    index = MeshIndex(4, 2, learned=True)
    z = index(torch.randn(3, 4))
    table = torch.zeros(3, 2, dtype=torch.long)
    for rows in (slice(0, 3), slice(0, 0)):
        loss = index.loss(z[rows], z, table[rows], table[rows] > 0, torch.rand(3, 2, 1)[rows])
        loss.backward(retain_graph=True)
        assert loss == 0 and (index.weight.grad == 0).all()


@pytest.mark.parametrize(
    ("argument", "options"), [("'dim'", {"dim": 0}), ("'dim'", {"dim": 5}), ("'temperature'", {"temperature": 0.0})]
)
def test_bad_options_are_named(argument, options):
    with pytest.raises(ValueError, match=argument):
        MeshIndex(4, **{"dim": 2, **options})


def test_repr():
    assert str(MeshIndex(4, 2)) == "MeshIndex(4, 2, learned=False)"
