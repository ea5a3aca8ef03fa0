"""TemporalMesh Transformer: learning on graphs that rebuild themselves, for PyTorch Geometric.

The names below are imported when first used, so that ``import tmt_geo`` alone is quick and needs no transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmt_geo.models.encoder import TMTEncoder as TMTEncoder
    from tmt_geo.models.gnn import MeshGNN as MeshGNN
    from tmt_geo.models.quartic.configuration_quartic import QuarticConfig as QuarticConfig
    from tmt_geo.models.quartic.modeling_quartic import QuarticModel as QuarticModel
    from tmt_geo.models.quartic.multi_stream_transformer import MultiStreamTransformer as MultiStreamTransformer
    from tmt_geo.models.quartic.quartic_transformer import QuarticTransformer as QuarticTransformer
    from tmt_geo.models.quartic.relational_transformer import RelationalTransformer as RelationalTransformer
    from tmt_geo.models.quartic_gnn import QuarticGNN as QuarticGNN
    from tmt_geo.models.tmt.backbone_tmt import TMTBackbone as TMTBackbone
    from tmt_geo.models.tmt.configuration_tmt import TMTConfig as TMTConfig
    from tmt_geo.models.tmt.modeling_tmt import TMTForCausalLM as TMTForCausalLM
    from tmt_geo.models.tmt.modeling_tmt import TMTModel as TMTModel
    from tmt_geo.models.tmt.output_tmt import TMTOutput as TMTOutput
    from tmt_geo.nn.conv.dynamic_mesh_attention import DynamicMeshAttention as DynamicMeshAttention
    from tmt_geo.nn.conv.mesh_attention import MeshAttention as MeshAttention
    from tmt_geo.nn.dual_stream import DualStreamFFN as DualStreamFFN
    from tmt_geo.nn.edge_attention import EdgeAttention as EdgeAttention
    from tmt_geo.nn.exit_gate import ExitGate as ExitGate
    from tmt_geo.nn.memory_anchors import MemoryAnchors as MemoryAnchors
    from tmt_geo.nn.mesh_index import MeshIndex as MeshIndex
    from tmt_geo.nn.quartic_layer import QuarticLayer as QuarticLayer
    from tmt_geo.nn.temporal_decay import TemporalDecay as TemporalDecay
    from tmt_geo.nn.tmt_layer import TMTLayer as TMTLayer
    from tmt_geo.ops.compiled import set_compile as set_compile
    from tmt_geo.ops.knn import knn_graph as knn_graph
    from tmt_geo.ops.mesh import Mesh as Mesh
    from tmt_geo.ops.temporal_graph import temporal_graph as temporal_graph
    from tmt_geo.transforms.add_mesh import AddMesh as AddMesh
    from tmt_geo.transforms.event_graph import EventGraph as EventGraph

__version__ = "0.1.0"

_HOME = {
    "knn_graph": "tmt_geo.ops.knn",
    "temporal_graph": "tmt_geo.ops.temporal_graph",
    "set_compile": "tmt_geo.ops.compiled",
    "Mesh": "tmt_geo.ops.mesh",
    "AddMesh": "tmt_geo.transforms.add_mesh",
    "EventGraph": "tmt_geo.transforms.event_graph",
    "MeshAttention": "tmt_geo.nn.conv.mesh_attention",
    "DynamicMeshAttention": "tmt_geo.nn.conv.dynamic_mesh_attention",
    "TemporalDecay": "tmt_geo.nn.temporal_decay",
    "ExitGate": "tmt_geo.nn.exit_gate",
    "DualStreamFFN": "tmt_geo.nn.dual_stream",
    "MemoryAnchors": "tmt_geo.nn.memory_anchors",
    "MeshIndex": "tmt_geo.nn.mesh_index",
    "TMTLayer": "tmt_geo.nn.tmt_layer",
    "EdgeAttention": "tmt_geo.nn.edge_attention",
    "QuarticLayer": "tmt_geo.nn.quartic_layer",
    "MeshGNN": "tmt_geo.models.gnn",
    "TMTEncoder": "tmt_geo.models.encoder",
    "QuarticGNN": "tmt_geo.models.quartic_gnn",
    "TMTBackbone": "tmt_geo.models.tmt.backbone_tmt",
    "TMTConfig": "tmt_geo.models.tmt.configuration_tmt",
    "TMTForCausalLM": "tmt_geo.models.tmt.modeling_tmt",
    "TMTModel": "tmt_geo.models.tmt.modeling_tmt",
    "TMTOutput": "tmt_geo.models.tmt.output_tmt",
    "QuarticConfig": "tmt_geo.models.quartic.configuration_quartic",
    "QuarticModel": "tmt_geo.models.quartic.modeling_quartic",
    "QuarticTransformer": "tmt_geo.models.quartic.quartic_transformer",
    "MultiStreamTransformer": "tmt_geo.models.quartic.multi_stream_transformer",
    "RelationalTransformer": "tmt_geo.models.quartic.relational_transformer",
}

__all__ = sorted(_HOME)


if not TYPE_CHECKING:  # a checker that sees this takes any name for given

    def __getattr__(name: str):
        if name not in _HOME:
            raise AttributeError(f"module 'tmt_geo' has no attribute {name!r}")
        if _HOME[name].startswith("tmt_geo.models"):
            import_module("tmt_geo.models")  # registers the Auto classes
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
