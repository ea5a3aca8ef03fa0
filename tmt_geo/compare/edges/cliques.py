"""Cliques of four: attention across a chosen part of the edges, where the choice is to be learned."""

from __future__ import annotations

from tmt_geo.compare.edges.chosen_edges import ChosenEdgesModel, NodesOnly
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.data.problems.cliques import CliqueProblem

NEIGHBOURS = 7  # of 16 pairs into each node: 112 of 256


def _row(name: str, edges: str) -> EdgeRow:
    return EdgeRow(name, ChosenEdgesModel, {"edges": edges, "k": NEIGHBOURS, "heads": 2}, multiple=2)


CLIQUES = TrainedSuite(
    name="cliques",
    about="The number of cliques of four through each edge of graphs of 16 nodes, which alone know their neighbours; "
    "7 of the 16 pairs into each node have states.",
    rows=(
        _row("given edges", "given"),
        _row("routed edges", "routed"),
        _row("random edges", "random"),
        _row("all pairs", "full"),
        EdgeRow("nodes", NodesOnly, {"layers": 4}),
    ),
    rates=(1.5e-3, 3e-3, 6e-3),
    problem=CliqueProblem.of_size(16, NEIGHBOURS, classes=6),
    recipe=Recipe(steps=1000, batch=16, smallest=16, largest=16),
    budget=40_000,
    exams={"n = 16": 16},
    graphs=256,
)

SUITES = (CLIQUES,)
