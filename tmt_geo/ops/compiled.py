"""Whether a function runs through ``torch.compile``: where the work repays it and a compiler is there."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

MODES = ("auto", "always", "never")

# Multiplications from which compiled code repays its compilation, a few seconds once on a machine.
LARGE = 2**22

_log = logging.getLogger(__name__)
_state = {"mode": "auto", "broken": False}


def set_compile(mode: str) -> None:
    """Choose whether the operators on edges run through ``torch.compile``.

    Args:
        mode (str): ``"auto"`` (where the work is large), ``"always"`` or ``"never"``. Without a working compiler all
            three run the plain code, and one line of the log says so.

    Raises:
        ValueError: For another mode.

    Example:
        >>> from tmt_geo import set_compile
        >>> set_compile("never")
        >>> set_compile("auto")
    """
    if mode not in MODES:
        raise ValueError(f"'mode' must be one of {MODES} (got {mode!r})")
    _state.update(mode=mode, broken=False)


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
        return _wanted(0)

    def __call__(self, work: int, *args: Tensor) -> Tensor:
        """Run on `args`; `work` is the number of multiplications."""
        if not _wanted(work):
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


def _wanted(work: int) -> bool:
    if _state["broken"] or _state["mode"] == "never":
        return False
    return _state["mode"] == "always" or work >= LARGE
