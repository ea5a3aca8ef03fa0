"""Problems of recall: sequences that say something, and later ask for it, with answers that are known exactly."""

from tmt_geo.data.problems.recall.forgetting import Forgetting
from tmt_geo.data.problems.recall.induction import Induction
from tmt_geo.data.problems.recall.joint import JointRecall
from tmt_geo.data.problems.recall.pairs import MultiQueryRecall
from tmt_geo.data.problems.recall.passkey import Passkey
from tmt_geo.data.problems.recall.problem import Questions, RecallProblem, Setting

__all__ = [
    "Forgetting",
    "Induction",
    "JointRecall",
    "MultiQueryRecall",
    "Passkey",
    "Questions",
    "RecallProblem",
    "Setting",
]
