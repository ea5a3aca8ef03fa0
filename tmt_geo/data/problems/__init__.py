"""Problems on small graphs whose answers are known exactly."""

from tmt_geo.data.problems.composition import CompositionProblem
from tmt_geo.data.problems.kinship import KinshipProblem
from tmt_geo.data.problems.problem import Problem
from tmt_geo.data.problems.word import WordProblem

__all__ = ["CompositionProblem", "KinshipProblem", "Problem", "WordProblem"]
