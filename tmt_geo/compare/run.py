"""A run: what is to be done, and where its result is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmt_geo.compare.json_file import read_json, write_json
from tmt_geo.compare.suite import Row, Suite


@dataclass(frozen=True)
class Run:
    """A row of a suite, with one seed.

    Attributes:
        suite: The suite.
        row: One of its rows.
        seed: Of the run; None where one result is of all seeds together.
    """

    suite: Suite
    row: Row
    seed: int | None

    def __str__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.suite.name}, {self.row.name}{seed}"

    @property
    def plan(self) -> dict[str, Any]:
        """Everything but the seed that decides the result."""
        return self.suite.plan(self.row)

    @property
    def file_name(self) -> str:
        """Of the result, without its ending."""
        return slug(self.row.name) + ("" if self.seed is None else f"-{self.seed}")

    def file(self, folder: Path) -> Path:
        """Where the result is kept in a folder of results: ``<folder>/<suite>/<row>-<seed>.json``."""
        return folder / self.suite.name / f"{self.file_name}.json"

    def load(self, folder: Path) -> dict[str, Any] | None:
        """The result; None if there is none, or one of another plan."""
        result = read_json(self.file(folder))
        return result if result is not None and result["plan"] == self.plan else None

    def store(self, folder: Path, result: dict[str, Any]) -> None:
        """Keep the result."""
        write_json(self.file(folder), result)


def slug(name: str) -> str:
    """A name as part of a file name: small letters, digits and dots, one hyphen between words."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().replace("without", "no")).strip("-")
