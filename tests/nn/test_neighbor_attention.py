"""The attention of a TMT layer: over a table in the order of time, with shared keys, shift and rotary positions."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from tmt_geo import TemporalDecay
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.ops.rotary import rotation
from tmt_geo.testing import assert_grads_close

N, F = 11, 8
OPTIONS = {
    "plain": {},
    "one kv head": {"kv_heads": 1},
    "two kv heads": {"kv_heads": 2},
    "shift": {"shift": True},
    "rotary": {"rotary": True},
    "log": {"decay": "log"},
    "published": {"decay": "published"},
    "all": {"kv_heads": 2, "shift": True, "rotary": True, "decay": "log"},
}


def attention_of(heads=4, **options):
    attention = NeighborAttention(F, heads, **options).double()
    if attention.shift is not None:
        nn.init.normal_(attention.shift)
    return attention


def past(n=N, k=3):
    """A table of some earlier nodes, fewer at the start, and the time of each node."""
    table = torch.stack([torch.randperm(max(i, 1))[torch.arange(k) % max(i, 1)] for i in range(n)])
    mask = torch.arange(k) < torch.arange(n).unsqueeze(1)
    return table, mask, torch.rand(n, dtype=torch.float64).sort().values


def run(attention, x, table, mask, time, targets=None):
    """All of it, as a layer calls it, for all nodes or some."""
    targets = torch.arange(x.size(0)) if targets is None else targets
    cos, sin = rotation(torch.arange(x.size(0)), attention.head_dim, x.dtype) if attention.rotary else (None, None)
    query = attention.query(x[targets], None if cos is None else (cos[targets], sin[targets]))
    key, value = attention.key_value(x, None if cos is None else (cos, sin))
    table, lag = table[targets], time[targets].unsqueeze(1) - time[table[targets]]
    self_kv = (key[targets], value[targets])
    return attention(query, key, value, table, mask[targets], self_kv, lag)


def by_loop(attention, x, table, mask, time):
    """Every node and head by itself, from the formulas."""
    C, share = attention.head_dim, attention.heads // attention.kv_heads
    query, key, value = (lin(x).unflatten(-1, (-1, C)) for lin in
                         (attention.lin_query, attention.lin_key, attention.lin_value))  # fmt: skip
    if attention.rotary:
        angle = torch.arange(N).double().unsqueeze(1) * 10000.0 ** (-torch.arange(C // 2).double() / (C // 2))
        turn = torch.exp(1j * angle).unsqueeze(1)
        query, key = (torch.complex(part[..., : C // 2], part[..., C // 2 :]) * turn for part in (query, key))
        query, key = (torch.cat([part.real, part.imag], dim=-1) for part in (query, key))
    rows = []
    for i in range(N):
        for h in range(attention.heads):
            keys, values, lags = [], [], []
            for j in [*table[i][mask[i]].tolist(), i]:
                row = [part[j, h // share] for part in (key, value)]
                if attention.shift is not None and j != i:
                    weight = attention.shift.sigmoid()[:, h // share]
                    after = [part[j + 1, h // share] for part in (key, value)]
                    row = [(1 - w) * a + w * b for w, a, b in zip(weight, row, after, strict=True)]
                keys.append(row[0])
                values.append(row[1])
                lags.append((time[i] - time[j]).abs())
            score, lag = torch.stack(keys) @ query[i, h] / C**0.5, torch.stack(lags)
            weight = None if attention.decay is None else attention.decay.weight[h]
            form = None if weight is None else attention.decay.form
            alpha = (score - lag * torch.log1p(weight.exp()) if form == "log" else score).softmax(0)
            rows.append((alpha * (lag * weight).sigmoid() if form == "published" else alpha) @ torch.stack(values))
    return torch.stack(rows).view(N, attention.heads, C)


@pytest.mark.parametrize("name", OPTIONS)
def test_value_and_every_gradient_are_those_of_the_formulas(name):
    attention, (table, mask, time) = attention_of(**OPTIONS[name]), past()
    x = torch.randn(N, F, dtype=torch.float64, requires_grad=True)
    out, alpha = run(attention, x, table, mask, time)
    inputs = {"x": x, **dict(attention.named_parameters())}
    assert_grads_close(out, by_loop(attention, x, table, mask, time), inputs)
    assert alpha.shape == (N, 4, 4) and (alpha[:, :3][~mask] == 0).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_some_targets_get_what_they_get_among_all(name):
    """Also one among many, whose neighbors are gathered, as a cached step does it."""
    attention, given = attention_of(**OPTIONS[name]), past()
    x = torch.randn(N, F, dtype=torch.float64)
    whole, _ = run(attention, x, *given)
    for targets in (torch.tensor([2, 7, 9, 10]), torch.tensor([10]), torch.tensor([], dtype=torch.long)):
        torch.testing.assert_close(run(attention, x, *given, targets=targets)[0], whole[targets])


@pytest.mark.parametrize("name", OPTIONS)
def test_no_node_depends_on_a_later_one(name):
    """The successor of a neighbor is no later than the node, and that of the node itself is not used."""
    attention, given = attention_of(**OPTIONS[name]), past()
    x = torch.randn(N, F, dtype=torch.float64)
    out, _ = run(attention, x, *given)
    for start in range(1, N):
        moved = torch.cat([x[:start], torch.randn(N - start, F, dtype=torch.float64)])
        again, _ = run(attention, moved, *given)
        torch.testing.assert_close(again[:start], out[:start])
        assert not torch.allclose(again[start:], out[start:])


@pytest.mark.parametrize("name", OPTIONS)
def test_second_derivatives(name):
    attention, given = attention_of(2, **{**OPTIONS[name], **({"kv_heads": 1} if "kv" in name else {})}), past(5)
    names = [name for name, _ in attention.named_parameters()]
    leaves = [part.detach().clone().requires_grad_() for part in (torch.randn(5, F).double(), *attention.parameters())]

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return run(self.attention, x, *given)[0]

    def call(x, *values):
        parameters = {f"attention.{name}": value for name, value in zip(names, values, strict=True)}
        return functional_call(Whole(), parameters, (x,))

    assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)


def test_no_nodes_and_no_neighbors():
    attention = attention_of(shift=True, rotary=True, decay="log")
    for n in (0, 3):
        x, none = torch.randn(n, F, dtype=torch.float64, requires_grad=True), torch.zeros(n, 0, dtype=torch.long)
        out, alpha = run(attention, x, none, none.bool(), torch.zeros(n))
        assert out.shape == (n, 4, 2) and alpha.shape == (n, 1, 4)
        torch.testing.assert_close(out.flatten(1), attention.lin_value(x))
        out.sum().backward()


def test_weights_are_dropped_in_training_alone():
    attention, given = attention_of(dropout=0.5), past()
    x = torch.randn(N, F, dtype=torch.float64)
    assert not torch.equal(run(attention, x, *given)[0], run(attention, x, *given)[0])
    attention.eval()
    assert torch.equal(run(attention, x, *given)[0], run(attention, x, *given)[0])


def test_reset_parameters_reaches_every_parameter():
    attention = NeighborAttention(F, 2, decay="log", shift=True)
    assert str(attention) == "NeighborAttention(8, heads=2)"
    with torch.no_grad():
        for value in attention.parameters():
            value.fill_(7.0)
    attention.reset_parameters()
    for name, value in attention.named_parameters():
        assert not (value == 7.0).any(), name


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("'heads'", {"heads": 3}),
        ("'heads'", {"heads": 0}),
        ("'kv_heads'", {"heads": 4, "kv_heads": 3}),
        ("'kv_heads'", {"heads": 4, "kv_heads": 0}),
        ("'rotary'", {"heads": 8, "rotary": True}),
        ("'decay'", {"heads": 2, "decay": TemporalDecay(4)}),
    ],
)
def test_a_wrong_option_is_named(argument, options):
    with pytest.raises(ValueError, match=rf"^{argument} .*\(got "):
        NeighborAttention(F, **options)


def test_a_decay_needs_lags():
    attention, rows = attention_of(2, decay="log"), torch.zeros(1, 2, 4, dtype=torch.float64)
    table = torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"'lag' .*\(got None\)"):
        attention(rows, rows, rows, table, table.bool(), (rows, rows))
