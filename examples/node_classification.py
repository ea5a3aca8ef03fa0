"""Classify the papers of Cora with mesh attention over its citations.

python examples/node_classification.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from torch_geometric import seed_everything
from torch_geometric.datasets import Planetoid
from torch_geometric.transforms import NormalizeFeatures

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=200)
parser.add_argument("--hidden-channels", type=int, default=64)
parser.add_argument("--lr", type=float, default=0.005)
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dataset = Planetoid(data_folder("planetoid"), "Cora", transform=NormalizeFeatures())
data = dataset[0].to(device)

model = MeshGNN(
    dataset.num_features, args.hidden_channels, num_layers=2, out_channels=dataset.num_classes,
    dropout=0.6, act="elu", heads=8, attention_dropout=0.6,
).to(device)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=5e-4)


def train() -> float:
    model.train()
    optimizer.zero_grad()
    out = model(F.dropout(data.x, 0.6), data.edge_index)
    loss = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test() -> tuple[float, float]:
    model.eval()
    right = model(data.x, data.edge_index).argmax(-1) == data.y
    return float(right[data.val_mask].float().mean()), float(right[data.test_mask].float().mean())


best_val = test_acc = 0.0
for epoch in range(1, args.epochs + 1):
    loss = train()
    val_acc, now = test()
    if val_acc > best_val:
        best_val, test_acc = val_acc, now
    if epoch % 10 == 0 or epoch == args.epochs:
        print(f"Epoch {epoch:03d}, Loss {loss:.3f}, Val {val_acc:.3f}, Test at best Val {test_acc:.3f}")
