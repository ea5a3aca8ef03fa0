"""Layers on graphs, with options drawn, each as one function of nodes and edges."""

import copy
from functools import partial

import torch
from hypothesis import strategies as st

from tmt_geo import DynamicMeshAttention, MeshAttention, MeshGNN, TMTEncoder, TMTLayer
from tmt_geo.nn.quartic_layer import QuarticLayer
from tmt_geo.nn.relational_layer import RelationalLayer
from tmt_geo.testing.tiny import parts

F = 8
HEADS, DECAY, FLAG = st.sampled_from([2, 1, 4]), st.sampled_from([None, "log", "published"]), st.booleans()
CONV = {"heads": HEADS, "decay": DECAY, "latent": FLAG, "residual": FLAG, "add_self_loops": FLAG}
MESH = {"k": st.sampled_from([2, 1, 5, 40]), "metric": st.sampled_from(["cosine", "euclidean"])}
LAYER = {
    "k": st.sampled_from([2, 1, 5]), "heads": HEADS, "decay": DECAY, "rotary": FLAG, "gated_heads": FLAG,
    "qk_norm": FLAG, "dual_stream": FLAG, "index_dim": st.sampled_from([None, 3]),
    "memory_anchors": st.sampled_from([0, 3]),
}  # fmt: skip
ALONG_TIME = {"window": st.sampled_from([0, 2]), "shift": FLAG}  # what needs causality
GATES = {"exit_rule": st.sampled_from([None, "budget", "fixed", "learned"]), "exit_threshold": st.just(0.3)}
FORMS = st.sampled_from(["factored", "gated", "pair", "product", "pivot", "axial"])
OPTIONS = {
    MeshAttention: CONV | {"concat": FLAG, "scaler": st.sampled_from([None, "linear"])},
    DynamicMeshAttention: CONV | MESH | {"concat": FLAG},
    TMTLayer: LAYER,
    TMTEncoder: LAYER | GATES | {"rebuild_every": st.sampled_from([1, 2])},
    MeshGNN: CONV | MESH | GATES | {"k": st.sampled_from([0, 2]), "jk": st.sampled_from([None, "cat"])},
    QuarticLayer: {"heads": HEADS, "forms": st.lists(FORMS, max_size=2, unique=True), "null_slot": FLAG},
    RelationalLayer: {"heads": HEADS},
}  # fmt: skip
MAKE = {
    MeshAttention: partial(MeshAttention, F, 4),
    DynamicMeshAttention: partial(DynamicMeshAttention, F, 4),
    TMTLayer: partial(TMTLayer, F),
    TMTEncoder: partial(TMTEncoder, F, F, 2),
    MeshGNN: partial(MeshGNN, F, F, 2, 4, act="elu"),
    QuarticLayer: partial(QuarticLayer, F, 4),
    RelationalLayer: partial(RelationalLayer, F, 4),
}


@st.composite
def layers(draw, causal):
    """The kind of a layer and its options."""
    kind = draw(st.sampled_from(list(OPTIONS)))
    along = ALONG_TIME if causal and kind in (TMTLayer, TMTEncoder) else {}
    return kind, draw(st.fixed_dictionaries(OPTIONS[kind] | along)) | {"causal": causal}


def function(kind, options):
    """The layer in float64 as `run(x, time, edge_index, batch)`, the same in each call; some take in no edges.

    Each node's row ends in what it had before, features and time, so that no two are alike.
    """
    if kind in (TMTLayer, TMTEncoder):
        options = parts(F, stack=kind is TMTEncoder, **options)
    module = MAKE[kind](**options).double().train()
    ends = torch.randn(2 * F, 4, dtype=torch.float64)

    def run(x, time, edge_index=None, batch=None):
        layer = copy.deepcopy(module)  # what a training forward moves is not there in the next
        if kind is MeshAttention:
            out = layer(x, edge_index, time=time)
        elif kind is MeshGNN:
            out = layer(x, edge_index, time=time, batch=batch)
        elif kind in (QuarticLayer, RelationalLayer):
            e = torch.tanh(torch.cat([x[edge_index[0]], 2 * x[edge_index[1]]], dim=1) @ ends)
            out, e = layer(x, edge_index, e, batch, time=time)
            late = edge_index.gather(0, time[edge_index].argmax(0, keepdim=True))[0]  # an edge is as late as that end
            out = torch.cat([out, e.new_zeros(x.size(0), 4).index_add(0, late, e)], dim=1)
        else:
            out = layer(x, batch, time=time)
        return torch.cat([out, x, time.to(x).unsqueeze(1)], dim=1)

    return run
