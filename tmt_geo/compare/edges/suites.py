"""All suites, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tmt_geo.compare.edges import brec, cliques, csl, cycles, facts, untrained, word
from tmt_geo.compare.edges.suite import EdgeSuite

MODULES = (word, facts, untrained, csl, brec, cycles, cliques)

SUITES: dict[str, EdgeSuite] = {suite.name: suite for module in MODULES for suite in module.SUITES}


def choose_suites(
    problems: Sequence[str] | None, rows: Sequence[str] | None, seeds: Sequence[int] | None
) -> list[EdgeSuite]:
    """The suites of these names, with these rows and seeds alone; all without names.

    Raises:
        ValueError: If a name, a row or a seed is not known.
    """
    wanted = [SUITES[name] for name in _known("problems", problems, list(SUITES))]
    _known("rows", rows, list(dict.fromkeys(row.name for suite in wanted for row in suite.rows)))
    _known("seeds", seeds, list(dict.fromkeys(seed for suite in wanted for seed in suite.seeds)))
    return [suite.only(rows or (), seeds or ()) for suite in wanted]


def _known(name: str, wanted: Sequence[Any] | None, known: Sequence[Any]) -> Sequence[Any]:
    """What is wanted, or all that is known."""
    if unknown := [one for one in wanted or () if one not in known]:
        raise ValueError(f"'{name}' must be among {', '.join(map(str, known))} (got {unknown[0]!r})")
    return wanted or known
