"""Cliques of four: attention across a chosen part of the edges, where the choice is to be learned."""

from __future__ import annotations

from tmt_geo.compare.edges.chosen_edges import ChosenEdgesModel, NodesOnly
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.data.problems.cliques import CliqueProblem

NODES = 13
NEIGHBOURS = 6  # of 13 pairs into each node: 78 of 169
WARMUP = 430  # steps with all pairs; as many more until only so many are left
RATE = 3e-3  # of all rows: none was chosen


def _row(name: str, edges: str, **options: int) -> EdgeRow:
    return EdgeRow(
        name, ChosenEdgesModel, {"edges": edges, "k": NEIGHBOURS, "heads": 2} | options, multiple=2, rate=RATE
    )


CLIQUES = TrainedSuite(
    name="cliques",
    about="The number of cliques of four through each edge of graphs of 13 nodes, which alone know their neighbours; "
    "6 of the 13 pairs into each node have states.",
    rows=(
        _row("given edges", "given"),
        _row("routed edges", "routed", warmup=WARMUP),
        _row("routed edges, no warm-up", "routed"),
        _row("random edges", "random", warmup=WARMUP),
        _row("all pairs", "full"),
        EdgeRow("nodes", NodesOnly, {"layers": 4}, rate=RATE),
    ),
    problem=CliqueProblem.of_size(NODES, NEIGHBOURS, classes=6),
    recipe=Recipe(steps=2000, batch=16, smallest=NODES, largest=NODES),
    budget=160_000,  # enough channels for what a node knows of twice as many nodes
    exams={f"n = {NODES}": NODES},
    graphs=256,
)

SUITES = (CLIQUES,)
