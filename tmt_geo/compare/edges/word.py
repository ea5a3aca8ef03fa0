"""The word problem: can a fixed number of layers compose as many steps as there are positions?"""

from __future__ import annotations

from tmt_geo.compare.edges.models import EdgeModel
from tmt_geo.compare.edges.node_models import NodeTransformer
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.data.problems import WordProblem

ROUNDS = 5

ROWS = (
    *(EdgeRow(form, EdgeModel, {"forms": [form], "rounds": ROUNDS}) for form in ("factored", "product", "gated")),
    EdgeRow("row + column", EdgeModel, {"forms": ["axial"], "rounds": ROUNDS}),
    EdgeRow("without edge attention", EdgeModel, {"forms": [], "rounds": ROUNDS}),
    EdgeRow("nodes, one layer in rounds", NodeTransformer, {"layers": 1, "rounds": ROUNDS}, multiple=8),
    EdgeRow("nodes, four layers", NodeTransformer, {"layers": 4}, multiple=8),
)

RATES = (1.5e-3, 3e-3, 6e-3)

S3 = TrainedSuite(
    name="word-s3",
    about="Products of permutations of three things, causal, asked at every prefix and examined at the last; trained "
    "on words that grow to 16.",
    rows=ROWS,
    bars=(
        Goal("factored", "n = 16", 0.99),
        Goal("nodes, one layer in rounds", "n = 16", 0.40, below=True),
        Goal("nodes, four layers", "n = 16", 0.40, below=True),
    ),
    aims=(Goal("factored", "n = 24", 0.95),),
    rates=RATES,
    problem=WordProblem.over("S3"),
    recipe=Recipe(steps=1000, batch=32, smallest=3, largest=16, grow=0.8),
    budget=30_000,
    exams={"n = 16": 16, "n = 24": 24},
)

A5 = TrainedSuite(
    name="word-a5",
    about="The same with the even permutations of five things, a group that is not solvable.",
    rows=tuple(
        row for row in ROWS if row.name in ("factored", "gated", "nodes, one layer in rounds", "nodes, four layers")
    ),
    aims=(Goal("factored", "n = 16", 0.95),),
    rates=RATES,
    problem=WordProblem.over("A5"),
    recipe=Recipe(steps=3000, batch=32, smallest=2, largest=16, grow=0.8),
    budget=120_000,
    exams={"n = 8": 8, "n = 16": 16},
)

SUITES = (S3, A5)
