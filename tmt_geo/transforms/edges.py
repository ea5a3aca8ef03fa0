"""The edges of PyG data: what describes them, which are known, and how a batch holds them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data


def edge_attributes(data: Data) -> list[str]:
    """What describes single edges: PyG's rule, less what merely happens to be as long as there are edges."""
    certain = data.num_edges != getattr(data, "num_graphs", 1)  # else it may describe graphs
    return [
        key
        for key in data.edge_attrs()
        if ("edge" in key or certain) and key != "ptr" and not key.startswith("edge_label")
    ]


def contains(edge_index: Tensor, other: Tensor, num_nodes: int) -> Tensor:
    """Which of the `other` edges are in `edge_index`."""
    return torch.isin(other[0] * num_nodes + other[1], edge_index[0] * num_nodes + edge_index[1])


def regroup(data: Data, keys: list[str]) -> Data:
    """Put the edges of each graph together again, as PyG's batches have them, with their attributes `keys`."""
    batch = data.get("batch")
    if batch is None:
        return data
    graph = batch[data.edge_index[1]]
    order = graph.argsort(stable=True)
    for key in keys:
        data[key] = data[key].index_select(data.__cat_dim__(key, data[key]), order)
    if hasattr(data, "_slice_dict"):  # where a batch can be taken apart, it still can
        ends = torch.bincount(graph, minlength=data.num_graphs).cumsum(0).cpu()
        slices = torch.cat([ends.new_zeros(1), ends])
        data._slice_dict = {**data._slice_dict, **dict.fromkeys(keys, slices)}
        data._inc_dict = {**data._inc_dict, "edge_index": data.ptr[:-1].cpu()}
    return data
