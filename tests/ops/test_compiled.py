"""When ``"auto"`` compiles: for large calls alone, and only once they add up to what a compilation costs."""

import pytest
import torch
from torch._dynamo.utils import counters

from tmt_geo.ops import compiled
from tmt_geo.ops.compiled import BREAK_EVEN, LARGE, MARGIN, expect_work, large_work, set_compile
from tmt_geo.ops.edges import Edges, sddmm


@pytest.fixture
def runs(monkeypatch):
    """Calls with so many multiplications each; returns which code ran them."""
    called = []
    chosen = compiled.Compiled(lambda x: x, lambda x: x)
    monkeypatch.setattr(chosen, "function", lambda x: called.append("compiled"))
    monkeypatch.setattr(chosen, "plain", lambda x: called.append("plain"))

    def run(*work):
        called.clear()
        for multiplications in work:
            chosen(multiplications, torch.zeros(2))
        return called

    yield run
    set_compile("auto")


def test_only_large_calls_are_compiled(runs):
    set_compile("auto", after=0)
    assert runs(LARGE - 1, LARGE, LARGE - 1) == ["plain", "compiled", "plain"]


def test_it_compiles_once_the_large_calls_add_up_to_the_price(runs):
    set_compile("auto", after=3 * LARGE)
    small = [LARGE - 1] * 100  # these count for nothing: compiled code would not have been faster
    assert runs(*small, LARGE, 2 * LARGE, LARGE, LARGE - 1, LARGE) == [
        *["plain"] * 102, "compiled", "plain", "compiled",
    ]  # fmt: skip


def test_a_choice_starts_the_count_anew(runs):
    set_compile("auto")
    assert runs(BREAK_EVEN, LARGE) == ["plain", "compiled"]
    set_compile("auto")
    assert runs(LARGE) == ["plain"]


def test_a_run_of_the_size_of_the_demo_never_compiles(runs):
    """200 steps of 8 x 256 tokens, 4 layers of 128 channels and 24 edges a node, forward and backward."""
    set_compile("auto")
    assert set(runs(*[8 * 256 * 24 * 128] * (200 * 4 * 2))) == {"plain"}


def test_work_to_come_that_is_worth_the_wait_compiles_at_once(runs):
    set_compile("auto")
    assert runs(LARGE) == ["plain"]  # the first step never waits
    expect_work(MARGIN * BREAK_EVEN)
    assert runs(LARGE) == ["plain"]
    expect_work(MARGIN * BREAK_EVEN + 1)
    assert runs(LARGE, LARGE - 1) == ["compiled", "plain"]


def test_what_work_is_to_come_does_not_overrule_a_mode(runs):
    set_compile("never")
    expect_work(float("inf"))
    assert runs(LARGE) == ["plain"]


def test_work_is_counted_where_it_could_be_compiled(runs):
    set_compile("auto")
    runs(LARGE, LARGE - 1, 3 * LARGE)
    assert large_work() == 4 * LARGE


def test_fifty_ragged_sizes_are_one_graph():
    """Nodes, targets and edges of every call differ, or are by chance the same, or one."""
    torch._dynamo.reset()
    counters.clear()
    set_compile("always")
    try:
        for size in range(50):
            sources, targets, width = 1 + size * 7 % 50, 1 + size * (3 if size % 2 else 7) % 50, 1 + size % 6
            edges = Edges.from_table(torch.randint(sources, (targets, width)), sources)
            a, b = torch.randn(targets, 4, 8, requires_grad=True), torch.randn(sources, 4, 8)
            product = sddmm(a, b, edges)
            torch.testing.assert_close(product, (a[edges.target] * b[edges.source]).sum(-1))
            product.sum().backward()
        if compiled._state["broken"]:
            pytest.skip("no compiler here")
    finally:
        set_compile("auto")
    assert 1 <= counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize(("mode", "code"), [("always", "compiled"), ("never", "plain")])
def test_the_other_modes_ask_for_no_size(runs, mode, code):
    set_compile(mode)
    assert runs(1, BREAK_EVEN + 1) == [code] * 2


def test_wrong_choices_are_named():
    with pytest.raises(ValueError, match="'mode'"):
        set_compile("maybe")
    with pytest.raises(ValueError, match="'after'"):
        set_compile("auto", after=-1)
