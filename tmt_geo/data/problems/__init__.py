"""Problems on small graphs whose answers are known exactly."""

from tmt_geo.data.problems.cliques import CliqueProblem
from tmt_geo.data.problems.composition import CompositionProblem
from tmt_geo.data.problems.four_cycles import FourCycles
from tmt_geo.data.problems.kinship import KinshipProblem
from tmt_geo.data.problems.problem import Problem
from tmt_geo.data.problems.skip_links import SkipLinks
from tmt_geo.data.problems.word import WordProblem

__all__ = [
    "CliqueProblem",
    "CompositionProblem",
    "FourCycles",
    "KinshipProblem",
    "Problem",
    "SkipLinks",
    "WordProblem",
]
