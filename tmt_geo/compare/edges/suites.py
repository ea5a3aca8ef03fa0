"""All suites, by name."""

from __future__ import annotations

from tmt_geo.compare.edges import brec, cliques, csl, cycles, facts, untrained, word
from tmt_geo.compare.edges.suite import EdgeSuite

MODULES = (word, facts, untrained, csl, brec, cycles, cliques)
SUITES: dict[str, EdgeSuite] = {suite.name: suite for module in MODULES for suite in module.SUITES}
