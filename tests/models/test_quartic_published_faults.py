"""Where the published quartic transformer (0.0.18) fails, one test a fault. What it computes is in no test of ours."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tmt_geo
from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
from tmt_geo.nn.edge_attention import EdgeAxialAttention, EdgeDiagonalAttention
from tmt_geo.nn.talking_heads import TalkingHeadsAttention
from tmt_geo.testing import assert_causal
from tmt_geo.testing.tiny_quartic import OPTIONS, SIZE, VOCAB
from tmt_geo.testing.tiny_quartic import stirred_quartic as stirred

IMPORT = """
import sys
for name in "einx einops colt5_attention hyper_connections taylor_series_linear_attention x_transformers".split():
    sys.modules[name] = None
from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer
"""


def outputs(model, kind, *call):
    """What the parts of this kind return in a forward."""
    found = []
    hooks = [
        part.register_forward_hook(lambda part, given, out: found.append((given, out)))
        for part in model.modules()
        if isinstance(part, kind)
    ]
    model(*call)
    for hook in hooks:
        hook.remove()
    return found


def test_it_imports_without_any_package_of_the_published_one():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=Path(tmt_geo.__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_default_call_takes_more_than_one_sequence(batch):
    model = QuarticTransformer(num_tokens=256, dim=16, depth=2)
    assert model(torch.randint(256, (batch, 7))).shape == (batch, 7, 256)


@pytest.mark.parametrize("causal", [False, True])
def test_diagonal_attention_changes_the_diagonal_alone(causal):
    model = stirred(causal=causal)
    found = outputs(model, EdgeDiagonalAttention, torch.randint(VOCAB, (2, 7)))
    assert len(found) == SIZE["depth"]
    for (_, edge_index, *_), out in found:
        loop = edge_index[0] == edge_index[1]
        assert int(loop.sum()) == 2 * 7
        assert out[loop].any(1).all() and not out[~loop].any()


def test_attention_is_nearly_uniform_at_the_start():
    """Scores over sqrt(C), not times it: an entropy near its largest, where the published one is nearly one-hot."""
    model = QuarticTransformer(num_tokens=256, dim=64, depth=2, dim_edges=16)
    found = outputs(model, TalkingHeadsAttention, torch.randint(256, (1, 64)))
    assert len(found) == 2
    for _, (_, alpha) in found:
        entropy = -(alpha * alpha.clamp(min=1e-30).log()).sum(-1)
        assert entropy.min() > 0.8 * math.log(64)


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_leaks_the_future(name):
    """Through three layers: the published one leaks from the second on."""
    model = stirred(name, causal=True, depth=3, dropout=0.2)
    ids = torch.randint(VOCAB, (2, 9))
    for mode in (model.train(), model.eval()):
        for start in (1, 5, 8):
            assert_causal(mode, lambda m, x, s=start: {"logits": m(x)[:, :s]}, ids, start, VOCAB, atol=1e-12)
    for mode in (model.train(), model.eval()):
        x = mode.embed(ids).detach().requires_grad_()
        out = mode.states(x)
        for place in range(9):
            (grad,) = torch.autograd.grad(out[:, place].sum(), x, retain_graph=True)
            assert not grad[:, place + 1 :].any()
            assert grad[:, : place + 1].any(-1).all()


@pytest.mark.parametrize("options", [{}, {"linear": True}])
def test_a_column_hears_what_is_earlier_and_not_what_is_later(options):
    """Three edges out of token 0, to 0, 1 and 2: each hears itself and those before it."""
    layer = EdgeAxialAttention(4, 4, 2, causal=True, **options).double()
    edge_index = torch.tensor([[0, 0, 0], [0, 1, 2]])
    edges = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    out = layer(edges, edge_index, time=torch.arange(3))
    for here in range(3):
        (grad,) = torch.autograd.grad(out[here].sum(), edges, retain_graph=True)
        assert grad.any(1).tolist() == [there <= here for there in range(3)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_is_made_on_a_device_of_its_own(name, causal):
    """A tensor made without the device of the others would be on this one, which holds no numbers."""
    model, ids = stirred(name, causal=causal), torch.randint(VOCAB, (2, 7))
    mask = torch.ones_like(ids)
    with torch.device("meta"):
        out = model(ids, mask)
    torch.testing.assert_close(out, model(ids))


def test_causal_models_take_a_mask():
    model, ids = stirred(causal=True), torch.randint(VOCAB, (1, 7))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    torch.testing.assert_close(model(ids, mask)[:, 2:], model(ids[:, 2:]))


@pytest.mark.parametrize("depth", [1, 3])
def test_the_edges_of_the_last_layer_reach_the_logits(depth):
    model = stirred(depth=depth)
    model(torch.randint(VOCAB, (2, 7))).square().sum().backward()
    last = model.layers[-1]
    reached = dict(last.edge_block.named_parameters())
    if last.lin_attention is not None:
        reached["lin_attention"] = last.lin_attention.weight
    assert len(reached) > 10 and (depth == 1) == (last.lin_attention is None)
    for name, parameter in reached.items():
        assert parameter.grad.any(), name
