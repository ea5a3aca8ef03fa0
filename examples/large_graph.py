"""A graph that is too large for one step, in parts: each step reads a random tenth of its nodes and their edges.

python examples/large_graph.py
"""

import argparse

import torch
import torch.nn.functional as F
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.loader import RandomNodeLoader
from torch_geometric.utils import to_undirected

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--nodes", type=int, default=20_000)
args = parser.parse_args()

# Communities whose members have two thirds of their edges among themselves; features tell little of them.
seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
num_classes, degree = 10, 60
y = torch.arange(args.nodes) % num_classes
source = torch.arange(args.nodes).repeat_interleave(degree // 2)
anyone, alike = torch.randint(args.nodes, source.shape), torch.randint(args.nodes // num_classes, source.shape)
target = torch.where(torch.rand(source.shape) < 2 / 3, alike * num_classes + y[source], anyone)
x = F.one_hot(y, num_classes).float() + 2 * torch.randn(args.nodes, num_classes)
data = Data(x=x, y=y, edge_index=to_undirected(torch.stack([source, target])))
data.train_mask = torch.rand(args.nodes) < 0.5
print(data)

train_loader = RandomNodeLoader(data, num_parts=10, shuffle=True)
test_loader = RandomNodeLoader(data, num_parts=4)
model = MeshGNN(num_classes, 32, num_layers=2, out_channels=num_classes, heads=2, residual=True).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def train() -> float:
    model.train()
    losses = []
    for part in train_loader:
        part = part.to(device)
        optimizer.zero_grad()
        out = model(part.x, part.edge_index)
        loss = F.cross_entropy(out[part.train_mask], part.y[part.train_mask])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def test() -> float:
    model.eval()
    right = total = 0
    for part in test_loader:
        part = part.to(device)
        out = model(part.x, part.edge_index).argmax(-1)
        right += int((out == part.y)[~part.train_mask].sum())
        total += int((~part.train_mask).sum())
    return right / total


for epoch in range(1, args.epochs + 1):
    print(f"Epoch {epoch:03d}, Loss {train():.3f}, Test {test():.3f}")
