"""Measuring language models: perplexity over a whole split, compute a token, exits by token, and peers of one size."""

from tmt_geo.evaluate.exit_profile import ExitProfile, ExitRow, exit_profile
from tmt_geo.evaluate.flops import FlopReport, count_flops
from tmt_geo.evaluate.peers import PEERS, build_peer
from tmt_geo.evaluate.perplexity import EvalReport, evaluate_model
from tmt_geo.evaluate.prediction_parts import PredictionParts, prediction_parts
from tmt_geo.evaluate.triangle_flow import FiredTriangles, triangle_flow, watch_triangles

__all__ = [
    "PEERS",
    "EvalReport",
    "ExitProfile",
    "ExitRow",
    "FiredTriangles",
    "FlopReport",
    "PredictionParts",
    "build_peer",
    "count_flops",
    "evaluate_model",
    "exit_profile",
    "prediction_parts",
    "triangle_flow",
    "watch_triangles",
]
