"""Facts along a path: do compositions learned on short chains hold on longer ones?"""

from __future__ import annotations

from tmt_geo.compare.edges.models import EdgeModel
from tmt_geo.compare.edges.relation_transformer import RelationTransformer
from tmt_geo.compare.edges.suite import EdgeRow
from tmt_geo.compare.edges.train import Recipe
from tmt_geo.compare.edges.trained import TrainedSuite
from tmt_geo.compare.problem_suite import Goal
from tmt_geo.data.problems import CompositionProblem, KinshipProblem

ROUNDS = 4
RATES = (1.5e-3, 3e-3, 6e-3)

ROWS = (
    *(EdgeRow(form, EdgeModel, {"forms": [form], "rounds": ROUNDS}) for form in ("factored", "product", "gated")),
    EdgeRow("row + column", EdgeModel, {"forms": ["axial"], "rounds": ROUNDS}),
    EdgeRow("without edge attention", EdgeModel, {"forms": [], "rounds": ROUNDS}),
    EdgeRow("relation-aware, one layer in rounds", RelationTransformer, {"rounds": ROUNDS}),
    EdgeRow("relation-aware, four layers", RelationTransformer, {"layers": 4}),
)

COMPOSITION = TrainedSuite(
    name="composition",
    about="Elements of S3 along a path of shuffled nodes; trained on chains of two to four, asked for longer ones.",
    rows=ROWS,
    bars=(
        Goal("factored", "k = 5", 0.99),
        Goal("factored", "k = 6", 0.90),
        Goal("relation-aware, one layer in rounds", "k = 5", 0.45, below=True),
        Goal("relation-aware, four layers", "k = 5", 0.45, below=True),
    ),
    aims=(Goal("factored", "k = 8", 0.90),),
    rates=RATES,
    problem=CompositionProblem.over("S3"),
    recipe=Recipe(steps=1500, batch=64, smallest=2, largest=4),
    budget=30_000,
    exams={"k = 4": 4, "k = 5": 5, "k = 6": 6, "k = 8": 8},
)

KINSHIP = TrainedSuite(
    name="kinship",
    about="Relations of kinship along a path through a family; trained on chains of two to four, asked for longer "
    "ones.",
    rows=ROWS,
    aims=tuple(Goal("factored", f"k = {facts}", 0.685) for facts in (6, 8, 10)),  # the Edge Transformer's on CLUTRR
    rates=RATES,
    problem=KinshipProblem.default(),
    recipe=Recipe(steps=1200, batch=64, smallest=2, largest=4),
    budget=30_000,
    exams={"k = 4": 4, "k = 5": 5, "k = 6": 6, "k = 8": 8, "k = 10": 10},
)

SUITES = (COMPOSITION, KINSHIP)
