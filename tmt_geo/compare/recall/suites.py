"""All suites, by name: each problem at two widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tmt_geo.compare.problem_suite import Goal
from tmt_geo.compare.recall.models import MESH
from tmt_geo.compare.recall.row import RecallRow
from tmt_geo.compare.recall.suite import RecallSuite
from tmt_geo.compare.recall.train import Recipe
from tmt_geo.data.problems.recall import Forgetting, Induction, JointRecall, MultiQueryRecall, Passkey, Setting

DENSE: dict[str, Any] = {"n_heads": 1}  # as Zoology has it; with two it learns more slowly
WINDOW: dict[str, Any] = {"keys": 24}  # no fewer keys than any mesh reads
CONVOLUTION: dict[str, Any] = {"convolution": 4}
MASKED = 16_384  # longer, the masks of all pairs do not fit

ALL_EDGES: dict[str, Any] = MESH | {"content_mesh": False}
CONTENT: dict[str, Any] = MESH | {"content_mesh": True}
# The published formulas, made causal, with as many edges as the mesh and its window have.
PUBLISHED: dict[str, Any] = {
    "graph_k": 16, "window": 0, "content_mesh": False, "shift": False, "decay": "published", "decay_rate": 0.1,
    "gated_heads": False, "gated_streams": False,
}  # fmt: skip

ROWS = (
    RecallRow("mesh", options=CONTENT),
    RecallRow("positions on all edges", options=ALL_EDGES),
    RecallRow("dense + convolution", "llama", DENSE | CONVOLUTION),
    RecallRow("dense", "llama", DENSE),
    RecallRow("window of 24", "mistral", WINDOW, longest=MASKED),
    RecallRow("window of 24 + convolution", "mistral", WINDOW | CONVOLUTION, longest=MASKED),
    RecallRow("mesh, approximate search", options=CONTENT | {"search": "ivf"}),
    RecallRow("published formulas", options=PUBLISHED),
    RecallRow("Mamba2", "mamba2", longest=MASKED),
)


def settings(*sizes: tuple[int, int]) -> tuple[Setting, ...]:
    """Settings by length and pairs."""
    return tuple(Setting(*size) for size in sizes)


RECALL = RecallSuite(
    name="recall",
    about="Multi-query recall: keys with their values, then each key again; trained on 64 to 256 tokens with 4 to 64 "
    "pairs, asked in sequences of so many tokens / pairs.",
    rows=ROWS,
    bars=tuple(Goal("mesh", score, 0.99) for score in ("1,024 / 256", "4,096 / 1,024", "16,384 / 256")),
    aims=(Goal("mesh", "65,536 / 2,048", 0.99),),
    rates=(4e-3, 8e-3, 1.6e-2),
    problem=MultiQueryRecall(),
    recipe=Recipe(steps=1800),
    width=64,
    trained=settings((64, 4), (128, 8), (256, 16), (256, 32), (256, 64)),
    asked=settings((256, 64), (1024, 256), (4096, 256), (4096, 1024), (16_384, 256), (65_536, 2048)),
)
FORGETTING = replace(
    RECALL,
    name="forgetting",
    about="The same, where each key is given a value twice and the later one counts.",
    bars=(),
    aims=(Goal("mesh", "4,096 / 512", 0.99),),
    problem=Forgetting(),
    trained=settings((64, 4), (128, 8), (256, 16), (256, 32)),
    asked=settings((256, 32), (1024, 128), (4096, 512), (16_384, 256)),
)
JOINT = replace(
    FORGETTING,
    name="joint",
    about="Joint recall: each key has another value in each context.",
    aims=(Goal("mesh", "4,096 / 256", 0.99),),
    problem=JointRecall(),
    trained=settings((64, 4), (128, 9), (256, 16), (256, 36)),
    asked=settings((256, 36), (1024, 144), (4096, 256), (16_384, 256)),
)
INDUCTION_2 = replace(
    FORGETTING,
    name="induction-2",
    about="Induction: what followed when these two tokens last stood together? Each of them alone occurs often.",
    aims=(Goal("mesh", "4,096 / 256", 0.99),),
    problem=Induction(name="induction-2", order=2),
    trained=settings((64, 8), (128, 16), (256, 16), (256, 32)),
    asked=settings((256, 32), (1024, 128), (4096, 256), (16_384, 256)),
)
INDUCTION_3 = replace(
    INDUCTION_2,
    name="induction-3",
    about="The same with three tokens.",
    problem=Induction(name="induction-3", order=3),
)
PASSKEY = replace(
    RECALL,
    name="passkey",
    about="Five digits that are said once, at any place, and asked for at the end; trained on 32 to 512 tokens.",
    bars=(Goal("mesh", "65,536 / 1", 0.99),),
    aims=(),
    rates=(1e-3, 2e-3, 4e-3),  # a step has few answers
    problem=Passkey(),
    trained=settings((32, 1), (128, 1), (512, 1)),
    asked=settings((512, 1), (4096, 1), (16_384, 1), (65_536, 1)),
    answers=100,
)
NARROW = (RECALL, FORGETTING, JOINT, INDUCTION_2, INDUCTION_3, PASSKEY)
WIDE = tuple(
    replace(
        suite,
        name=f"{suite.name}-128",
        about=f"`{suite.name}` with 128 channels.",
        width=128,
        rates=tuple(rate / 2 for rate in suite.rates),
    )
    for suite in NARROW
)
SUITES: dict[str, RecallSuite] = {suite.name: suite for suite in (*NARROW, *WIDE)}
