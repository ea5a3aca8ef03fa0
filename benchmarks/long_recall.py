"""Recall beyond the trained length, from the committed results of ``tmt-geo compare recall``.

    tmt-geo compare recall --jobs 2 --out benchmarks/results/recall
    python -m benchmarks.long_recall --write

The first command runs what has no result yet, the second writes the tables of all problems and their figures into
the page.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.problems import write_page
from tmt_geo.compare.recall.suites import SUITES

RESULTS = Path(__file__).parent / "results" / "recall"
PICTURES = ("recall",)  # problems whose figure the documentation shows

if __name__ == "__main__":
    write_page("recall", __doc__, SUITES, RESULTS, PICTURES)
