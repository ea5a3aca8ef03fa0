"""A causal layer on a graph gives a node nothing of what is later, in value or in gradient."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.drawn import SEEDS, features
from tests.properties.layers import F, function, layers
from tmt_geo.testing import assert_time_causal

NUMBERS = st.sampled_from(["plain", "repeated"])


def timed_graph(n, numbers):
    """Nodes with at most four moments among them, and edges in all directions with self-loops and twins."""
    time = torch.randint(4, (n,))
    time[0], time[-1] = 0, 3
    return {"x": features(n, F, numbers), "time": time}, torch.randint(n, (2, 4 * n))


@given(layer=layers(causal=True), n=st.integers(2, 14), seed=SEEDS, numbers=NUMBERS)
def test_what_is_earlier_does_not_move(layer, n, seed, numbers):
    torch.manual_seed(seed)
    run = function(*layer)
    assert_time_causal(run, *timed_graph(n, numbers))


@given(layer=layers(causal=True), n=st.integers(2, 14), seed=SEEDS, numbers=NUMBERS)
def test_no_gradient_of_what_is_earlier_reaches_what_is_later(layer, n, seed, numbers):
    torch.manual_seed(seed)
    run, (nodes, edge_index) = function(*layer), timed_graph(n, numbers)
    x, time = nodes["x"].requires_grad_(), nodes["time"]
    early = time < 2
    out = run(x, time, edge_index)[early]
    (grad,) = torch.autograd.grad((out * torch.randn_like(out)).sum(), x)
    assert grad[~early].abs().max() <= 1e-14 * grad.abs().max()
