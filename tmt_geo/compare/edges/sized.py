"""A model as large as a budget of parameters says."""

from __future__ import annotations

from torch import nn

from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.data.problems import Problem
from tmt_geo.evaluate.match_width import match_width

TOLERANCE = 0.01


def build_sized(row: EdgeRow, problem: Problem, budget: int) -> nn.Module:
    """The model of a row with as many parameters as all others.

    It gets the largest width at which it fits with twice as many hidden units as channels, and then as many hidden
    units as bring it nearest to the budget.

    Raises:
        ValueError: If it does not come within 1 %.
    """

    def count(width: int, hidden: int) -> int:
        return count_parameters(row.build(problem, width, hidden, **row.options))

    width = match_width(lambda width: count(width, 2 * width), budget, row.multiple)
    if width > row.multiple and count(width, 2 * width) > budget:
        width -= row.multiple
    hidden = match_width(lambda hidden: count(width, hidden), budget)
    params = count(width, hidden)
    if abs(params / budget - 1) > TOLERANCE:
        raise ValueError(f"'budget' must be within 1 % of what {row.name!r} can have, {params} (got {budget})")
    return row.build(problem, width, hidden, **row.options)


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
