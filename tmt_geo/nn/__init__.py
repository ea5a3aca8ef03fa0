"""Modules, one mechanism a file. They know nodes, graphs and time, and nothing of tokens."""

from tmt_geo.nn.conv.dynamic_mesh_attention import DynamicMeshAttention
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.dual_stream import DualStreamFFN
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgePairAttention
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.nn.tmt_layer import TMTLayer

__all__ = [
    "DualStreamFFN",
    "DynamicMeshAttention",
    "EdgeAttention",
    "EdgeAxialAttention",
    "EdgePairAttention",
    "ExitGate",
    "MemoryAnchors",
    "MeshAttention",
    "MeshIndex",
    "NeighborAttention",
    "QuarticLayer",
    "TMTLayer",
    "TemporalDecay",
]
