"""Who distrusts whom next? Events of Bitcoin OTC in the order of time, each reading the earlier ones of its users.

python examples/temporal_graph.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from sklearn.metrics import roc_auc_score
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.datasets import BitcoinOTC

from tmt_geo import EventGraph, MeshAttention

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
steps = BitcoinOTC(data_folder("bitcoin_otc"))
edge_index = torch.cat([data.edge_index for data in steps], dim=1)
trust = torch.cat([data.edge_attr for data in steps]).float() / 10
week = torch.cat([torch.full((data.num_edges,), i) for i, data in enumerate(steps)])

# A node for each event. It must not see its own trust: what it knows comes from earlier events alone, over the edges.
events = EventGraph(num_recent=10)(Data(edge_index=edge_index, time=week, y=(trust < 0).float()))
relation = F.one_hot(events.relation, 4).float()
events.edge_attr = torch.cat([relation, trust[events.edge_index[0]].unsqueeze(1)], dim=1)
events.x = torch.ones(events.num_nodes, 1)
events = events.to(device)
last_train, last_val = week.quantile(0.7), week.quantile(0.85)
now = events.time
train_mask, val_mask, test_mask = now <= last_train, (now > last_train) & (now <= last_val), now > last_val


class Net(nn.Module):
    def __init__(self, channels: int = 16, heads: int = 4):
        super().__init__()
        self.conv1 = MeshAttention(1, channels, heads, edge_dim=5, decay="log", residual=True)
        self.conv2 = MeshAttention(channels * heads, channels, heads, edge_dim=5, decay="log", residual=True)
        self.lin = nn.Linear(channels * heads, 1)

    def forward(self, data):
        x = self.conv1(data.x, data.edge_index, data.edge_attr, time=data.time).relu()
        x = self.conv2(x, data.edge_index, data.edge_attr, time=data.time).relu()
        return self.lin(x).squeeze(1)


model = Net().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
print(f"{events.num_nodes:,} events, {float(events.y.mean()):.3f} of them of distrust; {events.num_edges:,} edges")
for epoch in range(1, args.epochs + 1):
    model.train()
    optimizer.zero_grad()
    out = model(events)
    loss = F.binary_cross_entropy_with_logits(out[train_mask], events.y[train_mask])
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0 or epoch == args.epochs:
        model.eval()
        with torch.no_grad():
            out = model(events).cpu()
        val, test = (roc_auc_score(events.y.cpu()[m.cpu()], out[m.cpu()]) for m in (val_mask, test_mask))
        print(f"Epoch {epoch:03d}, Loss {float(loss):.3f}, Val AUC {val:.3f}, Test AUC {test:.3f}")
