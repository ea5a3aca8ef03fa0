"""Assertions for the tests of graph layers and causal models."""

from tmt_geo.testing.causal import assert_causal, perturb_suffix
from tmt_geo.testing.close import assert_grads_close

__all__ = ["assert_causal", "assert_grads_close", "perturb_suffix"]
