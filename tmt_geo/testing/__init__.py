"""Assertions for the tests of graph layers and causal models."""

from tmt_geo.testing.causal import assert_causal, perturb_suffix
from tmt_geo.testing.close import assert_grads_close
from tmt_geo.testing.memory import largest_tensor
from tmt_geo.testing.precise import assert_precise
from tmt_geo.testing.symmetry import assert_graph_independent, assert_node_equivariant, assert_time_causal

__all__ = [
    "assert_causal",
    "assert_grads_close",
    "assert_graph_independent",
    "assert_node_equivariant",
    "assert_precise",
    "assert_time_causal",
    "largest_tensor",
    "perturb_suffix",
]
