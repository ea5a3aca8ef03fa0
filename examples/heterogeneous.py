"""Mesh attention for each type of edge of a heterogeneous graph, and a mesh among the nodes of one type.

python examples/heterogeneous.py
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, Linear

from tmt_geo import MeshAttention, knn_graph

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=40)
args = parser.parse_args()

# Papers of three fields, and authors who write in one of them, but for a tenth of their papers.
seed_everything(0)
num_papers, num_authors, fields = 600, 200, 3
field, home = torch.randint(fields, (num_papers,)), torch.randint(fields, (num_authors,))
likely = (home.unsqueeze(1) == field).float() + 0.1  # [A, P]
writes = torch.stack([torch.arange(num_authors).repeat_interleave(6), likely.multinomial(6).flatten()])

data = HeteroData()
data["paper"].x = F.one_hot(field, fields).float() + 2 * torch.randn(num_papers, fields)  # hardly tells the field
data["paper"].y = field
data["author"].x = torch.randn(num_authors, 8)
data["author", "writes", "paper"].edge_index = writes
data["paper", "written_by", "author"].edge_index = writes.flip(0)
data["paper", "resembles", "paper"].edge_index = knn_graph(data["paper"].x, k=6).edge_index
train_mask = torch.rand(num_papers) < 0.5


class Net(nn.Module):
    def __init__(self, channels: int = 16, heads: int = 2, num_layers: int = 2):
        super().__init__()
        self.convs = nn.ModuleList()
        for _ in range(num_layers):
            size = {"heads": heads, "add_self_loops": False}  # of two sets of nodes, a loop would join strangers
            convs = {edge_type: MeshAttention((-1, -1), channels, **size) for edge_type in data.edge_types}
            self.convs.append(HeteroConv(convs, aggr="sum"))
        self.skips = nn.ModuleList(
            nn.ModuleDict({name: Linear(-1, channels * heads) for name in data.node_types}) for _ in range(num_layers)
        )
        self.lin = Linear(-1, fields)

    def forward(self, x_dict, edge_index_dict):
        for conv, skip in zip(self.convs, self.skips, strict=True):
            out = conv(x_dict, edge_index_dict)
            x_dict = {name: (x + skip[name](x_dict[name])).relu() for name, x in out.items()}
        return self.lin(x_dict["paper"])


model = Net()
with torch.no_grad():
    model(data.x_dict, data.edge_index_dict)  # infers the sizes
optimizer = torch.optim.Adam(model.parameters(), lr=0.005, weight_decay=1e-3)
for epoch in range(1, args.epochs + 1):
    model.train()
    optimizer.zero_grad()
    out = model(data.x_dict, data.edge_index_dict)
    loss = F.cross_entropy(out[train_mask], field[train_mask])
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0 or epoch == args.epochs:
        model.eval()
        with torch.no_grad():
            right = model(data.x_dict, data.edge_index_dict).argmax(-1) == field
        train_acc, test_acc = (float(right[mask].float().mean()) for mask in (train_mask, ~train_mask))
        print(f"Epoch {epoch:03d}, Loss {loss.item():.3f}, Train {train_acc:.3f}, Test {test_acc:.3f}")
