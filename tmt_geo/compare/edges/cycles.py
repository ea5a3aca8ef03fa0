"""Cycles of four through each edge: what message passing with the encodings of its nodes does not count."""

from __future__ import annotations

from tmt_geo.compare.edges.gps import GraphTransformer
from tmt_geo.compare.edges.models import EdgeModel
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.data.problems.four_cycles import FourCycles

ROUNDS = 2

ROWS = (
    EdgeRow("gated", EdgeModel, {"forms": ["gated"], "layers": ROUNDS}),
    *(
        EdgeRow(form, EdgeModel, {"forms": [form], "layers": ROUNDS, "null_slot": True})
        for form in ("factored", "product", "pivot")
    ),
    EdgeRow("row + column", EdgeModel, {"forms": ["axial"], "layers": ROUNDS}),
    EdgeRow("GPS, random walks", GraphTransformer, {"layers": 4, "walk": 16}),
    EdgeRow("GPS, no encodings", GraphTransformer, {"layers": 4}),
)

CYCLES = TrainedSuite(
    name="four-cycles",
    about="The number of 4-cycles through each edge of random graphs of 10 to 14 nodes, of mean degree 4, as a class.",
    rows=ROWS,
    bars=(Goal("gated", "n = 12", 0.90),),
    aims=(Goal("gated", "n = 20", 0.98),),
    rates=(1.5e-3, 3e-3, 6e-3),
    problem=FourCycles.of_degree(4.0, classes=13),
    recipe=Recipe(steps=2000, batch=32, smallest=10, largest=14),
    budget=30_000,
    exams={"n = 12": 12, "n = 20": 20},
    graphs=256,
)

SUITES = (CYCLES,)
