"""Who distrusts whom next? Ratings of Bitcoin OTC in the order of time, each reading the earlier ones of its users.

python examples/temporal_graph.py
"""

import argparse

import numpy as np
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
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--events", type=int, default=35_592, help="The first so many.")
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# From the file of PyG's data set, which keeps the moment of each rating; the data set itself sums up fortnights.
table = np.loadtxt(BitcoinOTC(data_folder("bitcoin_otc")).raw_paths[0], delimiter=",", max_rows=args.events)
users, trust, seconds = (torch.from_numpy(part) for part in np.split(table, [2, 3], axis=1))
trust, seconds = trust.squeeze(1).float() / 10, seconds.squeeze(1)

# A node for each rating. It must not see its own value: what it knows comes from earlier ratings alone, by the edges.
events = EventGraph(num_recent=5)(Data(edge_index=users.long().t(), time=seconds, y=(trust < 0).float()))
relation = F.one_hot(events.relation, 4).float()
events.edge_attr = torch.cat([relation, trust[events.edge_index[0]].unsqueeze(1)], dim=1)
events.x = torch.ones(events.num_nodes, 1)
events.time = ((seconds - seconds[0]) / (7 * 86_400)).float()  # in weeks
events = events.to(device)
ends = [round(share * events.num_nodes) for share in (0.7, 0.85, 1.0)]
train, val, test = slice(ends[0]), slice(*ends[:2]), slice(*ends[1:])


class Net(nn.Module):
    def __init__(self, channels: int = 16, heads: int = 2):
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
print(f"{events.num_nodes:,} ratings, {float(events.y.mean()):.3f} of them of distrust; {events.num_edges:,} edges")
for epoch in range(1, args.epochs + 1):
    model.train()
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(model(events)[train], events.y[train])
    loss.backward()
    optimizer.step()
    if epoch % 10 == 0 or epoch == args.epochs:
        model.eval()
        with torch.no_grad():
            out = model(events).cpu()
        val_auc, test_auc = (roc_auc_score(events.y[part].cpu(), out[part]) for part in (val, test))
        print(f"Epoch {epoch:03d}, Loss {loss.item():.3f}, Val AUC {val_auc:.3f}, Test AUC {test_auc:.3f}")
