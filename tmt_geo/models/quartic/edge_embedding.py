"""The states with which pairs of tokens begin."""

from __future__ import annotations

from torch import Tensor, nn

from tmt_geo.ops.full_graphs import FullGraphs


class DistanceBias(nn.Module):
    r"""A vector for each signed distance, by a small network, so that any distance has one.

    It reads :math:`\mathrm{sign}(d) \log(1 + |d|)`, as the continuous position bias of Swin Transformer V2 does
    (Liu et al., arXiv:2111.09883, section 3.3).

    Args:
        channels (int): Channels of the vectors :math:`D`.
        hidden (int): Width of the network.

    Shapes:
        - **input:** distances, integers :math:`(E)`
        - **output:** :math:`(E, D)`
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, distance: Tensor) -> Tensor:
        """Run the network once for each distance that there is."""
        known, place = distance.unique(return_inverse=True)
        size = known.to(self.network[0].weight.dtype)
        return self.network((size.sign() * size.abs().log1p()).unsqueeze(1))[place]


class EdgeEmbedding(nn.Module):
    r"""The first state of an edge: its ends, and how far apart they are.

    :math:`\mathbf{e}_{ji} = \mathrm{LayerNorm}(\mathbf{W}_s \mathbf{x}_j + \mathbf{W}_t \mathbf{x}_i) +
    \mathrm{DistanceBias}(i - j)`

    Args:
        channels (int): Node features :math:`F`.
        edge_channels (int): Edge features :math:`D`.

    Shapes:
        - **input:** nodes :math:`(V, F)`
        - **output:** :math:`(E, D)`
    """

    def __init__(self, channels: int, edge_channels: int):
        super().__init__()
        self.lin_source = nn.Linear(channels, edge_channels, bias=False)
        self.lin_target = nn.Linear(channels, edge_channels, bias=False)
        self.norm = nn.LayerNorm(edge_channels)
        self.distance_bias = DistanceBias(edge_channels, channels)

    def forward(self, x: Tensor, graphs: FullGraphs) -> Tensor:
        """Embed the edges between these nodes."""
        source, target = graphs.edge_index
        ends = self.lin_source(x).index_select(0, source) + self.lin_target(x).index_select(0, target)
        return self.norm(ends) + self.distance_bias(graphs.position[target] - graphs.position[source])
