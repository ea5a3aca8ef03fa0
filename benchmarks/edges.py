"""Attention among edges beside attention among nodes, from the committed results of ``tmt-geo compare edges``.

    tmt-geo compare edges --jobs 2 --out benchmarks/results/edges
    python -m benchmarks.edges --write

The first command runs what has no result yet, the second writes the tables of all problems and their figures into
the page.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.problems import write_page
from tmt_geo.compare.edges.suites import SUITES

RESULTS = Path(__file__).parent / "results" / "edges"
PICTURES = ("word-s3",)  # problems whose figure the documentation shows

if __name__ == "__main__":
    write_page("edges", __doc__, SUITES, RESULTS, PICTURES)
