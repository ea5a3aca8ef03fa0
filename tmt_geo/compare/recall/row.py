"""A row of a suite of recall."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tmt_geo.compare.problem_suite import ProblemRow


@dataclass(frozen=True)
class RecallRow(ProblemRow):
    """A model.

    Attributes:
        family: ``"tmt"``, or one of :data:`tmt_geo.evaluate.PEERS`.
        options: Of ``TMTConfig`` or of :func:`tmt_geo.evaluate.build_peer`.
        longest: Nothing is asked in longer sequences, where the library would hold a mask of all pairs; None for no
            limit.
    """

    family: str = "tmt"
    options: dict[str, Any] = field(default_factory=dict)
    longest: int | None = None
