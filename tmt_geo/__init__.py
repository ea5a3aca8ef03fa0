"""TemporalMesh Transformer: learning on graphs that rebuild themselves, for PyTorch Geometric.

The names below are imported when first used, so that ``import tmt_geo`` alone is quick and needs no transformers.
"""

from importlib import import_module

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
    "MeshGNN": "tmt_geo.models.gnn",
    "TMTEncoder": "tmt_geo.models.encoder",
    "TMTBackbone": "tmt_geo.models.tmt.backbone_tmt",
    "TMTConfig": "tmt_geo.models.tmt.configuration_tmt",
    "TMTForCausalLM": "tmt_geo.models.tmt.modeling_tmt",
    "TMTModel": "tmt_geo.models.tmt.modeling_tmt",
    "TMTOutput": "tmt_geo.models.tmt.output_tmt",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'tmt_geo' has no attribute {name!r}")
    if _HOME[name].startswith("tmt_geo.models"):
        import_module("tmt_geo.models")  # registers the Auto classes
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
