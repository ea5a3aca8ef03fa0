"""Whether somebody deals with the messages of a convolution, so that there have to be any."""

from __future__ import annotations

from torch_geometric.nn import MessagePassing

STEPS = ("message", "edge_update", "aggregate", "update")  # what a subclass may do in its own way
HOOKS = [f"_{step}_forward{when}_hooks" for step in ("propagate", *STEPS[:3]) for when in ("_pre", "")]


def watched(conv: MessagePassing, plain: type[MessagePassing]) -> bool:
    """Whether an explainer or a hook does, or a step of `conv` is not that of the class `plain`."""
    own = any(step in vars(conv) or getattr(type(conv), step) is not getattr(plain, step) for step in STEPS)
    return own or bool(conv.explain) or any(len(getattr(conv, hooks)) for hooks in HOOKS)
