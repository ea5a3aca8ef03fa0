"""A mesh for any model: Cora without its citations, and a GCN over the nearest papers by their words.

python examples/add_mesh.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from torch_geometric import seed_everything
from torch_geometric.datasets import Planetoid
from torch_geometric.nn import GCN, MLP
from torch_geometric.transforms import NormalizeFeatures

from tmt_geo import AddMesh

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
parser.add_argument("--k", type=int, default=20)
args = parser.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dataset = Planetoid(data_folder("planetoid"), "Cora", transform=NormalizeFeatures())
data = AddMesh(args.k, replace=True)(dataset[0]).to(device)  # its edges lead from like papers, not from cited ones


def fit(model: torch.nn.Module, *inputs: torch.Tensor) -> float:
    """Test accuracy at the best validation."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-3)
    best_val = test_acc = 0.0
    for _ in range(args.epochs):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(*inputs)[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            right = (model(*inputs).argmax(-1) == data.y).float()
        if right[data.val_mask].mean() > best_val:
            best_val, test_acc = float(right[data.val_mask].mean()), float(right[data.test_mask].mean())
    return test_acc


seed_everything(0)
size = {"hidden_channels": 64, "out_channels": dataset.num_classes, "num_layers": 2, "dropout": 0.5}
print(f"MLP, words alone: {fit(MLP(dataset.num_features, **size).to(device), data.x):.3f}")
print(f"GCN over the mesh: {fit(GCN(dataset.num_features, **size).to(device), data.x, data.edge_index):.3f}")
