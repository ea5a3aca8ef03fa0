"""What a suite of problems for attention among edges is, and its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tmt_geo.compare.problem_suite import ProblemRow, ProblemSuite

REVISION = 1  # of the protocol: results of another one are taken anew


@dataclass(frozen=True)
class EdgeRow(ProblemRow):
    """A model.

    Attributes:
        build: Makes it. In a suite that trains, from the problem, a width and a fine adjustment of its parameters; see
            :mod:`tmt_geo.compare.edges.models`.
        options: Further arguments of `build`.
        multiple: Widths are multiples of this, say of the number of heads.
    """

    build: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    multiple: int = 4


@dataclass(frozen=True)
class EdgeSuite(ProblemSuite):
    """Models on one problem, whose rows are :class:`EdgeRow`."""

    rows: tuple[EdgeRow, ...]

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        plan = {"revision": REVISION, "model": row.build.__name__, "options": row.options, "rate": row.rate}
        return json.loads(json.dumps(plan))
