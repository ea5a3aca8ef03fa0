"""Classify the molecules of MUTAG: attention over bonds and a mesh over all atoms, pooled.

python examples/graph_classification.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from torch_geometric import seed_everything
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--k", type=int, default=3, help="Nearest atoms beside the bonded ones; 0 for none.")
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dataset = TUDataset(data_folder("tu"), "MUTAG", cleaned=True).shuffle()
fold = len(dataset) // 5
test_loader = DataLoader(dataset[:fold], batch_size=64)
train_loader = DataLoader(dataset[fold:], batch_size=32, shuffle=True)

model = MeshGNN(
    dataset.num_features, 32, num_layers=3, out_channels=dataset.num_classes,
    heads=4, k=args.k, norm="batch_norm", pool=["mean", "max"], residual=True, edge_dim=dataset.num_edge_features,
).to(device)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)


def forward(data):
    return model(data.x, data.edge_index, edge_attr=data.edge_attr, batch=data.batch)


def train() -> float:
    model.train()
    total = 0.0
    for data in train_loader:
        data = data.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(data), data.y)
        loss.backward()
        optimizer.step()
        total += loss.item() * data.num_graphs
    return total / len(train_loader.dataset)


@torch.no_grad()
def test(loader: DataLoader) -> float:
    model.eval()
    right = sum(int((forward(data.to(device)).argmax(-1) == data.y).sum()) for data in loader)
    return right / len(loader.dataset)


for epoch in range(1, args.epochs + 1):
    loss = train()
    if epoch % 10 == 0 or epoch == args.epochs:
        print(f"Epoch {epoch:03d}, Loss {loss:.3f}, Train {test(train_loader):.3f}, Test {test(test_loader):.3f}")
