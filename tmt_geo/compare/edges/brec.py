"""BREC: which of 400 pairs of graphs a model tells apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric import seed_everything

from tmt_geo.compare.edges.gps import GraphTransformer
from tmt_geo.compare.edges.graph_model import EdgeGraphModel
from tmt_geo.compare.edges.paired_comparison import CHANNELS, Comparison, Verdict, compare_pair
from tmt_geo.compare.edges.sized import build_sized, count_parameters
from tmt_geo.compare.edges.suite import EdgeRow, EdgeSuite
from tmt_geo.compare.edges.untrained import OfMatrices
from tmt_geo.compare.problem_suite import Goal, ProblemRun
from tmt_geo.data.problems import Problem
from tmt_geo.data.problems.brec import PARTS, brec_folder, brec_pairs

EMBEDDING = Problem("brec", node_kinds=1, edge_kinds=3, classes=CHANNELS, level="graph")


@dataclass(frozen=True, kw_only=True)
class BrecSuite(EdgeSuite):
    """Models on BREC by its own protocol, see :mod:`~tmt_geo.compare.edges.paired_comparison`.

    Each part is a run of its own. The table has one line a model; pairs of parts that were not run count as not told.

    Attributes:
        how: The training on each pair.
        budget: Parameters that every model has, within 1 %.
        pairs: At most so many of each part.
        part: The part of a run, one of :data:`PARTS`.
    """

    how: Comparison
    budget: int
    pairs: int = 100
    part: str = ""

    def measure(self, row: EdgeRow, seed: int) -> dict[str, Any]:
        """See :meth:`ProblemSuite.measure`; each pair has a model of its own."""
        begin = time.process_time()
        verdicts = []
        for number, (one, other) in enumerate(brec_pairs(self.part, brec_folder())[: self.pairs]):
            seed_everything(seed)
            model = OfMatrices(build_sized(row, EMBEDDING, self.budget))
            generator = torch.Generator().manual_seed(1000 * seed + number)
            verdicts.append(compare_pair(model, one, other, self.how, generator))
        return {
            "scores": {self.part: share(verdicts)},
            "pairs": len(verdicts),
            "told": [number for number, verdict in enumerate(verdicts) if verdict.told],
            "unreliable": [number for number, verdict in enumerate(verdicts) if not verdict.reliable],
            "statistics": [asdict(verdict) for verdict in verdicts],
            "params": count_parameters(model),
            "seconds": time.process_time() - begin,
            "torch": torch.__version__,
        }

    def plan(self, row: EdgeRow) -> dict[str, Any]:
        """See :meth:`Suite.plan`."""
        plan = {"part": self.part, "how": asdict(self.how), "budget": self.budget, "pairs": self.pairs}
        return super().plan(row) | plan

    def quick(self) -> BrecSuite:
        """See :meth:`ProblemSuite.quick`."""
        return replace(self, seeds=self.seeds[:1], pairs=1, how=replace(self.how, epochs=1))

    def finals(self, folder: Path) -> Iterator[ProblemRun]:
        """Every row on every part, with every seed."""
        for seed in self.seeds:
            for part in PARTS:
                for row in self.rows:
                    yield self._run(row, part, seed)

    def results(self, folder: Path) -> dict[str, list[dict[str, Any]]]:
        """See :meth:`ProblemSuite.results`; the parts of each model and seed as one."""
        found = {}
        for row in self.rows:
            loaded = [[self._run(row, part, seed).load(folder) for part in PARTS] for seed in self.seeds]
            parts = [[result for result in of_seed if result is not None] for of_seed in loaded]
            if whole := [together(of_seed, self.all_pairs) for of_seed in parts if of_seed]:
                found[row.name] = whole
        return found

    @property
    def all_pairs(self) -> int:
        """The pairs of all parts."""
        return sum(min(pairs, self.pairs) for pairs in PARTS.values())

    def _run(self, row: EdgeRow, part: str, seed: int) -> ProblemRun:
        return ProblemRun(replace(self, part=part), replace(row, name=f"{row.name}, {part}"), seed)


def share(verdicts: list[Verdict]) -> float:
    """The share of pairs that are told apart."""
    return sum(verdict.told for verdict in verdicts) / len(verdicts)


def together(parts: list[dict[str, Any]], all_pairs: int) -> dict[str, Any]:
    """The results of some parts as one, with the share that is told of so many pairs."""
    told = sum(len(part["told"]) for part in parts)
    scores = {"all": told / all_pairs} | {name: score for part in parts for name, score in part["scores"].items()}
    return {**parts[0], "scores": scores, "seconds": sum(part["seconds"] for part in parts)}


# A second round of pairs sees what the first has told; triangles carry it through the graph.
BOTH = ["gated+pair", "gated+pair", *["gated"] * 4]

BREC = BrecSuite(
    name="brec",
    about="The share of the 400 pairs of BREC, and of each part, that a model tells apart by BREC's own protocol, "
    "with one epoch on each pair. A part that was not run counts as not told.",
    rows=(
        EdgeRow("triangle + pair", EdgeGraphModel, {"rounds": BOTH, "heads": 2}),
        EdgeRow("triangle", EdgeGraphModel, {"rounds": ["gated"] * 6, "heads": 2}),
        EdgeRow("factored", EdgeGraphModel, {"rounds": ["factored"] * 6, "heads": 2}),
        EdgeRow("row + column", EdgeGraphModel, {"rounds": ["axial"] * 6, "heads": 2}),
        EdgeRow("GIN", GraphTransformer, {"layers": 6, "attention": False}),
    ),
    bars=(Goal("triangle + pair", "all", 255 / 400),),
    aims=(Goal("triangle + pair", "all", 300 / 400),),
    how=Comparison(epochs=1),
    budget=23_500,
)

SUITES = (BREC,)
