"""Measuring language models: perplexity over a whole split, compute a token, and a peer of the same size."""

from tmt_geo.evaluate.flops import FlopReport, count_flops
from tmt_geo.evaluate.peers import match_llama
from tmt_geo.evaluate.perplexity import EvalReport, evaluate_model

__all__ = ["EvalReport", "FlopReport", "count_flops", "evaluate_model", "match_llama"]
