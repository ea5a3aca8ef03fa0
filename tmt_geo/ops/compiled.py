"""Whether a function runs through ``torch.compile``: once the work has repaid it, and where a compiler is there."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

MODES = ("auto", "always", "never")

# Multiplications of one call from which compiled code is the faster one.
LARGE = 2**22
# Multiplications of large calls that take as long to save as the compiler takes to start. Measured on a CPU core:
# compiled code saves 0.2 to 0.5 ns a multiplication, and the compiler needs about 16 s when its cache is empty.
BREAK_EVEN = 2**36

_log = logging.getLogger(__name__)
_state = {"mode": "auto", "after": BREAK_EVEN, "done": 0, "broken": False}


def set_compile(mode: str, after: int = BREAK_EVEN) -> None:
    """Choose whether the operators on edges run through ``torch.compile``.

    ``"auto"`` does not know how much work is to come, so it lets the work so far decide: the plain code runs until the
    large calls of this process add up to what a compilation costs, and compiled code runs from then on. A short run
    never waits for the compiler, and a long one loses at most the price of a second compilation. The model of the demo
    (128 channels, 4 layers with exits) gets there after some 5,000 training steps of 2,048 tokens, one of 512 channels
    and 12 layers after 60 to 200 steps of 4,096. Both codes agree to rounding; choose a fixed mode where two runs must
    be equal bit for bit.

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
    if after < 0:
        raise ValueError(f"'after' must be at least 0 (got {after})")
    _state.update(mode=mode, after=after, done=0, broken=False)


class Compiled:
    """A function of tensors that runs compiled, or in another form of the same where that is not wanted or fails.

    Args:
        function (callable): What is compiled. Plain code: the compiler makes of it what it holds in memory.
        plain (callable): The same function, written to run as it stands.
    """

    def __init__(self, function: Callable[..., Tensor], plain: Callable[..., Tensor]):
        self.function = torch.compile(function)
        self.plain = plain
        self.strict = function is not plain  # then what the compiler declines must not run as it stands

    @property
    def always(self) -> bool:
        """Whether it runs compiled whatever the work."""
        return _state["mode"] == "always" and not _state["broken"]

    def __call__(self, work: int, *args: Tensor) -> Tensor:
        """Run on `args`; `work` is the number of multiplications."""
        if not (self.always or _repaid(work)):
            return self.plain(*args)
        try:
            if not self.strict:
                return self.function(*args)
            # One graph for each type and number of channels, never a silent return to the uncompiled `function`.
            with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
                return self.function(*args)
        except Exception as error:  # no compiler, or one that fails: whatever it says, the plain code is right
            if not isinstance(error, torch.OutOfMemoryError):
                _state["broken"] = True
                _log.warning("torch.compile does not work here, plain code runs instead (%s)", type(error).__name__)
            return self.plain(*args)


def _repaid(work: int) -> bool:
    """Whether the large calls so far, this one included, add up to what a compilation costs; counts this one."""
    if _state["mode"] != "auto" or _state["broken"] or work < LARGE:
        return False
    _state["done"] += work
    return _state["done"] > _state["after"]
