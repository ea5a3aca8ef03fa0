"""The layers of a graph neural network over given edges, each convolution called as a module."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn.models.basic_gnn import BasicGNN

from tmt_geo.models.graph_input import GraphInput


def run_modules(model: BasicGNN, x: Tensor, graph: GraphInput) -> list[Tensor]:
    """The states that enter and leave each layer; hooks, explainers and tracers see the convolutions."""
    states = [x]
    for i, (conv, norm) in enumerate(zip(model.convs, model.norms, strict=True)):
        x = conv(x, graph.edge_index, graph.edge_attr, time=graph.time, edge_time=graph.edge_time)
        if i < model.num_layers - 1 or model.jk_mode is not None:
            x = behind_convolution(model, x, norm, graph.batch, graph.batch_size)
        states.append(x)
    return states


def behind_convolution(
    model: BasicGNN, x: Tensor, norm: nn.Module, batch: Tensor | None, batch_size: int | None
) -> Tensor:
    """Non-linearity, normalisation and dropout, as PyG orders them."""
    if model.act is not None and model.act_first:
        x = model.act(x)
    x = norm(x, batch, batch_size) if model.supports_norm_batch else norm(x)
    if model.act is not None and not model.act_first:
        x = model.act(x)
    return model.dropout(x)
