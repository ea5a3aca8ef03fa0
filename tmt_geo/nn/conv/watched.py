"""Whether somebody deals with the messages of a convolution, so that there have to be any."""

from __future__ import annotations

from torch_geometric.nn import MessagePassing

STEPS = ("message", "edge_update", "aggregate", "update")  # what a subclass may do in its own way
HOOKS = [f"_{step}_forward{when}_hooks" for step in ("propagate", *STEPS[:3]) for when in ("_pre", "")]


def own_steps(conv: MessagePassing, plain: type[MessagePassing]) -> list[str]:
    """The steps that are not those of the class `plain`."""
    return [step for step in STEPS if step in vars(conv) or getattr(type(conv), step) is not getattr(plain, step)]


def observed(conv: MessagePassing) -> bool:
    """Whether there is an explainer or a hook."""
    return bool(conv.explain) or any(len(getattr(conv, hooks)) for hooks in HOOKS)
