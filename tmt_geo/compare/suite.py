"""What a suite and its rows are, in every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: Its name.
    """

    name: str


@dataclass(frozen=True)
class Suite:
    """One table: rows that are measured alike.

    Attributes:
        name: Its name, also that of its folder.
        about: One line above the table.
        rows: Its lines.
    """

    name: str
    about: str
    rows: tuple[Any, ...]

    def plan(self, row: Any) -> dict[str, Any]:
        """Everything but the seed that decides what a run gives, as JSON has it.

        Names are no part of it. A result is kept with its plan, and one of another plan does not count.
        """
        raise NotImplementedError
