"""A run of training compiles after its first step where what is left is worth the wait."""

from types import SimpleNamespace

import pytest

from tmt_geo.ops import compiled
from tmt_geo.ops.compiled import BREAK_EVEN, LARGE, MARGIN, set_compile
from tmt_geo.train.compile_when_it_pays import CompileWhenItPays


@pytest.fixture(autouse=True)
def count_anew():
    set_compile("auto")
    yield
    set_compile("auto")


def compiles_after(step, of, before=0):
    """Whether large calls compile after this step, each step with one large call, of so many steps."""
    callback, state = CompileWhenItPays(), SimpleNamespace(global_step=step, max_steps=of)
    compiled._state["done"] += before  # what another run in this process has done is no measure of this one
    callback.on_step_begin(None, state, None)
    compiled._state["done"] += LARGE
    callback.on_step_end(None, state, None)
    return compiled._state["done"] >= BREAK_EVEN


STEPS = MARGIN * BREAK_EVEN // LARGE  # as many as are worth the wait twice over


def test_a_long_run_compiles_after_its_first_step():
    assert compiles_after(1, of=STEPS + 2)


@pytest.mark.parametrize(("step", "of", "before"), [(1, STEPS + 1, 0), (STEPS, 2 * STEPS, 0), (1, 10, 100 * LARGE)])
def test_a_short_run_or_the_end_of_a_long_one_does_not(step, of, before):
    assert not compiles_after(step, of, before)
