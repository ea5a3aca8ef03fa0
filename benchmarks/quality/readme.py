"""What the documentation says of the results."""

from __future__ import annotations

from pathlib import Path

from tmt_geo.compare.report import section
from tmt_geo.compare.suites import SIZED

RESULTS = Path(__file__).parents[1] / "results" / "quality"
PICTURES = ("ablation",)  # suites whose figure the README shows


def sections(folder: Path) -> str:
    """The sections of all suites, at all sizes, that have results."""
    found = [section(suite, folder) for suite in SIZED]
    return "\n\n".join(text for text in found if text)
