"""What a row of speed is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tmt_geo.compare.suite import Row

# Makes what a contestant needs on a device, and returns what is measured. A function of a module or a `partial` of
# one, so that a fresh process can be handed it.
Build = Callable[[torch.device], Callable[[], object]]


@dataclass(frozen=True)
class Goal:
    """What counts in a row, and how much of it is wanted.

    Attributes:
        words: How a figure is said, as in ``"{}x as fast"``.
        bar: What the row must show.
        aim: What it should show.
        of: What counts: ``"ratio"`` (ours / peer), ``"inverse"`` (peer / ours) or ``"ours"``.
        at_least: Whether more is better.
    """

    words: str
    bar: float
    aim: float
    of: str = "ratio"
    at_least: bool = False

    def figure(self, ours: float, peer: float | None) -> float | None:
        """What counts of two measured values; None where a peer is needed and there is none."""
        if self.of == "ours":
            return ours
        if peer is None:
            return None
        return peer / ours if self.of == "inverse" else ours / peer

    def met(self, figure: float) -> bool:
        """Whether a figure reaches the bar."""
        return figure >= self.bar if self.at_least else figure <= self.bar

    def say(self, figure: float) -> str:
        """A figure in words, to three digits."""
        return self.words.format(f"{figure:.3g}" if figure < 1000 else f"{figure:,.0f}")


def faster(bar: float, aim: float) -> Goal:
    """So many times as fast as the peer."""
    return Goal("{}x as fast", bar, aim, of="inverse", at_least=True)


def share(bar: float, aim: float, of_what: str) -> Goal:
    """At most this share of the peer's time or memory."""
    return Goal(f"{{}} of its {of_what}", bar, aim)


def growth(bar: float, aim: float) -> Goal:
    """At most so many times the time of the smaller size."""
    return Goal("{}x the time", bar, aim)


def as_many(bar: float, aim: float) -> Goal:
    """So many times the peer's tokens a second."""
    return Goal("{}x as many", bar, aim, at_least=True)


def below(bar: float, aim: float) -> Goal:
    """At most so many MiB."""
    return Goal("{} MiB", bar, aim, of="ours")


@dataclass(frozen=True)
class SpeedRow(Row):
    """Ours beside its peers, at one size.

    Attributes:
        at: At which size.
        goal: What counts.
        ours: Our contestant.
        peers: The peer's configurations by name; the best one counts. Empty: the row stands alone.
        unit: ``"ms"`` (of one call, divided by `per`), ``"tokens/s"`` (`per` tokens a call) or ``"MiB"`` (peak memory
            of two calls over what there was before).
        per: Tokens of a call, where they count.
        repeats: How often each contestant is timed.
        warmups: Calls before that, in which compilers compile.
        notes: Makes further figures on a device, which are kept and shown beside the row.
        least: What those figures must be at least, or the bar is missed.
        model: Sizes and options of our language model, by which a committed result of its quality is found.
    """

    at: str
    goal: Goal
    ours: Build
    peers: dict[str, Build] = field(default_factory=dict)
    unit: str = "ms"
    per: int = 1
    repeats: int = 15
    warmups: int = 3
    notes: Callable[[torch.device], dict[str, float]] | None = None
    least: dict[str, float] = field(default_factory=dict)
    model: dict | None = None

    def met(self, figure: float, notes: dict[str, float]) -> bool:
        """Whether a row with this figure and these notes reaches its bar."""
        return self.goal.met(figure) and all(notes[name] >= least for name, least in self.least.items())
