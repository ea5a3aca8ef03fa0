from functools import partial

import pytest
import torch

from tmt_geo import ExitGate, MemoryAnchors, TMTEncoder, TMTLayer
from tmt_geo.ops.layout import DenseLayout


def test_shapes_and_batches():
    encoder = TMTEncoder(5, 16, 2, out_channels=7, heads=2, k=3, causal=False).eval()
    x, batch = torch.randn(12, 5), torch.tensor([0] * 4 + [1] * 8)
    out = encoder(x, batch)
    assert out.shape == (12, 7)
    torch.testing.assert_close(encoder(x[4:]), out[4:])
    assert str(encoder) == "TMTEncoder(16, num_layers=2)"
    assert TMTEncoder(-1, 16, 1, heads=2, causal=True)(x).shape == (12, 16)


@pytest.mark.parametrize("causal", [True, False])
def test_node_order_does_not_matter_where_time_is_given(causal):
    options = {"window": 2, "shift": True, "rotary": True} if causal else {}
    encoder = TMTEncoder(5, 16, 3, heads=2, k=3, causal=causal, exit_rule="fixed", exit_threshold=0.12,
                         decay="log", memory=partial(MemoryAnchors, 16, 3), **options).double().eval()  # fmt: skip
    x, time = torch.randn(14, 5, dtype=torch.float64), torch.rand(14, dtype=torch.float64)
    batch, perm = torch.tensor([0] * 6 + [1] * 8), torch.randperm(14)
    out = encoder(x, batch, time)
    torch.testing.assert_close(encoder(x[perm], batch[perm], time[perm]), out[perm])


@pytest.mark.parametrize(("seed", "first"), [(0, 1), (1, 1), (4, 2)])
def test_gates_hold_their_budget_while_training_and_after(seed, first):
    torch.manual_seed(seed)
    options = {"exit_rule": "budget", "exit_budget": 0.5, "exit_after": first}
    encoder = TMTEncoder(8, 32, 5, heads=2, k=3, causal=True, **options).train()
    assert [layer.gate is not None for layer in encoder.layers] == [first == 1, True, True, True, False]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
    centre = torch.randn(32)
    for _ in range(80):
        loss = (encoder(torch.randn(200, 8), torch.arange(200) // 50) - centre).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    layout = DenseLayout.uniform(40, 50)
    out = encoder.eval().run(encoder.lin_in(torch.randn(2000, 8)), layout)
    shares = 1 - out.exit_masks().float().mean(dim=1)
    assert abs(float(shares.mean()) - 0.5) < 0.05
    assert (shares == 1).sum() == first
    assert (out.confidences().amax(dim=1) > 0).tolist() == [first == 1, True, True, True, True]


def test_bad_input_names_the_argument():
    with pytest.raises(ValueError, match="'num_layers'"):
        TMTEncoder(4, 8, 0, causal=True)
    with pytest.raises(ValueError, match="'exit_budget'"):
        TMTEncoder(4, 8, 4, causal=True, exit_rule="budget", exit_budget=0.1)
    with pytest.raises(ValueError, match="'exit_budget'"):
        TMTEncoder(4, 8, 4, causal=True, exit_rule="budget", exit_budget=0.4, exit_after=2)
    with pytest.raises(ValueError, match="'exit_after'"):
        TMTEncoder(4, 8, 4, causal=True, exit_rule="fixed", exit_after=5)
    with pytest.raises(ValueError, match="'x'"):
        TMTEncoder(4, 8, 1, causal=True)(torch.zeros(2, 3, 4))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_features_must_be_finite(value):
    x = torch.randn(6, 4)
    x[3, 2] = value
    for run in (TMTEncoder(4, 8, 1, causal=True).forward, TMTEncoder(4, 8, 1, causal=True).layer_graphs):
        with pytest.raises(ValueError, match="'x' must be finite"):
            run(x)


@pytest.mark.parametrize("name", ["batch", "time"])
def test_vectors_must_be_where_the_features_are(name):
    encoder, elsewhere = TMTEncoder(4, 8, 1, causal=True), torch.zeros(6, dtype=torch.long, device="meta")
    for run in (encoder.forward, encoder.layer_graphs):
        with pytest.raises(ValueError, match=f"'{name}'"):
            run(torch.randn(6, 4), **{name: elsewhere})


def test_layers_of_a_stack_are_called_as_modules_and_are_layers_alone():
    encoder = TMTEncoder(None, 16, 3, heads=2, k=3, causal=False, exit_rule="budget").double()
    seen = []
    for number, layer in enumerate(encoder.layers):
        layer.register_forward_hook(lambda module, args, out, number=number: seen.append((number, out[0])))
    x, batch = torch.randn(12, 16, dtype=torch.double), torch.tensor([0] * 4 + [1] * 8)
    out = encoder.eval()(x, batch)
    assert [number for number, _ in seen] == [0, 1, 2]
    assert torch.equal(encoder.norm(seen[-1][1]), out)
    alone = TMTLayer(16, heads=2, k=3, causal=False, gate=ExitGate(16)).double().eval()
    alone.load_state_dict(encoder.layers[0].state_dict())
    assert torch.equal(alone(x, batch=batch), encoder.layers[0](x, batch=batch))
    assert torch.equal(alone(x, batch=batch), seen[0][1])
