"""When ``"auto"`` compiles: for large calls alone, and only once they add up to what a compilation costs."""

import pytest

from tmt_geo.ops import compiled
from tmt_geo.ops.compiled import BREAK_EVEN, LARGE, set_compile


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
            chosen(multiplications, None)
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


@pytest.mark.parametrize(("mode", "code"), [("always", "compiled"), ("never", "plain")])
def test_the_other_modes_ask_for_no_size(runs, mode, code):
    set_compile(mode)
    assert runs(1, BREAK_EVEN + 1) == [code] * 2


def test_wrong_choices_are_named():
    with pytest.raises(ValueError, match="'mode'"):
        set_compile("maybe")
    with pytest.raises(ValueError, match="'after'"):
        set_compile("auto", after=-1)
