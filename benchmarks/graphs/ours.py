"""Encoders made of this package's modules: `(x, edge_index, batch, edge_attr) -> x`, as those of `peers`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data

from benchmarks.graphs.suite import Sizes
from tmt_geo import MeshAttention, MeshGNN, TemporalDecay

COUNTING = ["identity", "amplification", "attenuation", "linear"]  # a scaler for each of four heads


def tmt(in_channels: int, width: int, out_channels: int | None, config: dict) -> nn.Module:
    """The rows `TMT`, which are `MeshGNN`; `edges` says whether it uses the given ones."""
    names = ("act", "norm", "jk", "k", "metric", "heads", "attention_dropout", "latent", "residual", "scaler",
             "edge_dim", "exit_rule")  # fmt: skip
    options = {name: config[name] for name in names if name in config}
    dropout = config.get("inner_dropout", config["dropout"])
    model = MeshGNN(in_channels, width, config["layers"], out_channels, dropout, **options)
    return OverGraph(model, config.get("edges", True))


class OverGraph(nn.Module):
    """A model with the arguments of this benchmark's encoders."""

    def __init__(self, model: MeshGNN, edges: bool):
        super().__init__()
        self.model, self.edges = model, edges

    def forward(
        self, x: Tensor, edge_index: Tensor | None = None, batch: Tensor | None = None, edge_attr: Tensor | None = None
    ) -> Tensor:
        """States of the nodes."""
        return self.model(x, edge_index if self.edges else None, edge_attr=edge_attr, batch=batch)


class EventMesh(nn.Module):
    """Mesh attention over earlier events, whose weights decay with the days that have passed."""

    def __init__(self, sizes: Sizes, width: int, config: dict):
        super().__init__()
        heads, self.dropout, self.lag = config["heads"], config["dropout"], config["lag"]
        form, edge_dim = config["decay"], sizes.edge_channels + self.lag
        self.lin_in = nn.Linear(sizes.in_channels, width)
        self.convs = nn.ModuleList(
            MeshAttention(
                width, width // heads, heads, edge_dim=edge_dim,
                decay=None if form is None else TemporalDecay(heads, form, config["rate"]),
            )
            for _ in range(config["layers"])
        )  # fmt: skip
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convs)
        self.lin_out = nn.Linear(width, 1)

    def forward(self, data: Data) -> Tensor:
        """Logits of the events (E)."""
        edge_attr = torch.cat([data.edge_attr, data.lag], dim=1) if self.lag else data.edge_attr
        x = self.lin_in(data.x)
        for conv, norm_layer in zip(self.convs, self.norms, strict=True):
            out = norm_layer(conv(x, data.edge_index, time=data.time, edge_attr=edge_attr)).relu()
            x = x + F.dropout(out, self.dropout, self.training)
        return self.lin_out(x).squeeze(1)
