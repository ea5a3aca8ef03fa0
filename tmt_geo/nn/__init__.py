"""Modules, one mechanism a file. They know nodes, graphs and time, and nothing of tokens."""

from tmt_geo.nn.conv.dynamic_mesh_attention import DynamicMeshAttention
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.conv.relational_attention import RelationalAttention
from tmt_geo.nn.dual_stream import DualStreamFFN
from tmt_geo.nn.edge_attention import EdgeAttention, EdgeAxialAttention, EdgeDiagonalAttention, EdgePairAttention
from tmt_geo.nn.edge_block import EdgeBlock
from tmt_geo.nn.edge_sets import FullEdges, GivenEdges, MeshEdges, RoutedEdges
from tmt_geo.nn.edge_stream import EdgeStream
from tmt_geo.nn.exit_gate import ExitGate
from tmt_geo.nn.memory_anchors import MemoryAnchors
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.nn.neighbor_attention import NeighborAttention
from tmt_geo.nn.node_conv import NodeConv
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.nn.relational_layer import RelationalLayer
from tmt_geo.nn.residual_lanes import HyperConnection
from tmt_geo.nn.talking_heads import TalkingHeads, TalkingHeadsAttention
from tmt_geo.nn.temporal_decay import TemporalDecay
from tmt_geo.nn.tmt_layer import TMTLayer

__all__ = [
    "DualStreamFFN",
    "DynamicMeshAttention",
    "EdgeAttention",
    "EdgeAxialAttention",
    "EdgeBlock",
    "EdgeDiagonalAttention",
    "EdgePairAttention",
    "EdgeStream",
    "ExitGate",
    "FullEdges",
    "GivenEdges",
    "HyperConnection",
    "MemoryAnchors",
    "MeshAttention",
    "MeshEdges",
    "MeshIndex",
    "NeighborAttention",
    "NodeConv",
    "QuarticLayer",
    "RelationalAttention",
    "RelationalLayer",
    "RoutedEdges",
    "TMTLayer",
    "TalkingHeads",
    "TalkingHeadsAttention",
    "TemporalDecay",
]
