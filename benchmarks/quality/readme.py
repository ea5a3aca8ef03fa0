"""What the README says of the results."""

from __future__ import annotations

from pathlib import Path

from tmt_geo.compare import SUITES
from tmt_geo.compare.report import section
from tmt_geo.compare.suites import RECIPES, at_size

RESULTS = Path(__file__).parents[1] / "results" / "quality"
MARKS = ("<!-- quality -->", "<!-- end of quality -->")


def sections(folder: Path) -> str:
    """The sections of all suites, at all sizes, that have results."""
    found = [section(at_size(suite, size), folder) for suite in SUITES.values() for size in RECIPES]
    return "\n\n".join(text for text in found if text)
