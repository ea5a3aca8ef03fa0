"""Whether a function runs through ``torch.compile``: once the work has repaid it, and where a compiler is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental import _config as shapes

from tmt_geo.ops.checks import check_reals

MODES = ("auto", "always", "never")

# Multiplications of one call from which compiled code is the faster one.
LARGE = 2**22
# Multiplications of large calls that take as long to save as the compiler takes to start. Measured on a CPU core:
# compiled code saves 0.2 to 0.5 ns a multiplication, and the compiler needs about 16 s when its cache is empty.
BREAK_EVEN = 2**36
# What a multiplication counts on another device. By arithmetic, not by measurement: compiled code spares a card about
# 24 bytes of traffic a multiplication, 10 ps at 2 TB/s, where it spares a CPU core some 300.
WORTH = {"cuda": 1 / 32}
# A run that is known to be so many times as long as pays for a compilation need not be measured out first.
MARGIN = 2

_log = logging.getLogger(__name__)
_state: dict[str, Any] = {"mode": "auto", "after": BREAK_EVEN, "done": 0.0, "broken": False}


def set_compile(mode: str, after: int = BREAK_EVEN) -> None:
    """Choose whether the operators on edges run through ``torch.compile``.

    ``"auto"`` does not know how much work is to come, so it lets the work so far decide: the plain code runs until the
    large calls of this process add up to what a compilation costs, and compiled code runs from then on. A short run
    never waits for the compiler, and a long one loses at most the price of a second compilation. The loop of training
    knows how much is to come: where that is worth the wait twice over, it compiles after the first step. The model of
    the demo (128 channels, 4 layers with exits) repays a compilation in some 5,000 training steps of 2,048 tokens, one
    of 512 channels and 12 layers in 60 to 200 steps of 4,096. Both codes agree to rounding; choose a fixed mode where
    two runs must be equal bit for bit.

    What is compiled is kept on disk by PyTorch (the cache of inductor, in the folder ``TORCHINDUCTOR_CACHE_DIR`` or
    one below that of temporary files): a later process reads it and waits a fraction of the time. One version serves
    graphs of every size.

    Args:
        mode (str): ``"auto"``, ``"always"`` or ``"never"``. Without a working compiler all three run the plain code,
            and one line of the log says so.
        after (int): For ``"auto"``: multiplications of large calls (of 4 million and more) that run plain first. With
            0 every large call is compiled, as in the middle of a long training. Calling this function starts the
            count anew.

    Raises:
        ValueError: For another mode, or if ``after`` is negative.

    Example:
        >>> from tmt_geo import set_compile
        >>> set_compile("never")
        >>> set_compile("auto")
    """
    if mode not in MODES:
        raise ValueError(f"'mode' must be one of {MODES} (got {mode!r})")
    check_reals(after=after)
    if after < 0:
        raise ValueError(f"'after' must be at least 0 (got {after})")
    _state.update(mode=mode, after=after, done=0.0, broken=False)


def large_work() -> float:
    """The multiplications of large calls so far, as the mode ``"auto"`` counts them."""
    return float(_state["done"])


def expect_work(work: float) -> None:
    """Let ``"auto"`` compile from now on if so much work to come, see :func:`large_work`, is worth the wait."""
    if work > MARGIN * _state["after"]:
        _state["done"] = max(_state["done"], _state["after"])


class Compiled:
    """A function of tensors that runs compiled, or in another form of the same where that is not wanted or fails.

    Args:
        function (callable): What is compiled. Plain code: the compiler makes of it what it holds in memory.
        plain (callable): The same function, written to run as it stands.
    """

    def __init__(self, function: Callable[..., Any], plain: Callable[..., Any]):
        self.source = function
        self.function = torch.compile(function)
        self.plain = plain
        self.strict = function is not plain  # then what the compiler declines must not run as it stands

    @property
    def always(self) -> bool:
        """Whether it runs compiled whatever the work."""
        return _state["mode"] == "always" and not _state["broken"]

    def __call__(self, work: int, *args: Any) -> Any:
        """Run on `args`; `work` is the number of multiplications."""
        if torch.compiler.is_compiling():  # somebody's graph, of which this becomes a part
            return self.source(*args)
        if not (self.always or _repaid(work, args)):
            return self.plain(*args)
        try:
            if not self.strict:
                return self.function(*args)
            for part in args:  # their lengths are nodes and edges, which no two graphs have in common
                torch._dynamo.maybe_mark_dynamic(part, 0)
            # One graph for each type and number of channels, never a silent return to the uncompiled `function`; and
            # no other one where two lengths happen to be equal.
            with (
                torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True),
                shapes.patch(use_duck_shape=False),  # type: ignore[attr-defined]
            ):
                return self.function(*args)
        except Exception as error:  # no compiler, or one that fails: whatever it says, the plain code is right
            if not isinstance(error, torch.OutOfMemoryError):
                _state["broken"] = True
                _log.warning("torch.compile does not work here, plain code runs instead (%s)", type(error).__name__)
            return self.plain(*args)


def _repaid(work: int, args: tuple[Any, ...]) -> bool:
    """Whether the large calls so far, this one included, add up to what a compilation costs; counts this one."""
    if _state["mode"] != "auto" or _state["broken"] or work < LARGE:
        return False
    _state["done"] += work * WORTH.get(args[0].device.type, 1)
    return _state["done"] > _state["after"]
