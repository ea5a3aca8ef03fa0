"""Predict missing citations of Cora from what mesh attention makes of the papers.

python examples/link_prediction.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from sklearn.metrics import roc_auc_score
from torch_geometric import seed_everything
from torch_geometric.datasets import Planetoid
from torch_geometric.transforms import Compose, NormalizeFeatures, RandomLinkSplit, ToDevice
from torch_geometric.utils import negative_sampling

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
split = RandomLinkSplit(num_val=0.05, num_test=0.1, is_undirected=True, add_negative_train_samples=False)
transform = Compose([NormalizeFeatures(), ToDevice(device), split])
dataset = Planetoid(data_folder("planetoid"), "Cora", transform=transform)
train_data, val_data, test_data = dataset[0]

model = MeshGNN(dataset.num_features, 64, num_layers=2, heads=2, latent=True, dropout=0.3).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)


def score(data, edge_label_index):
    z = model(data.x, data.edge_index)
    return (z[edge_label_index[0]] * z[edge_label_index[1]]).sum(-1)


def train() -> float:
    model.train()
    optimizer.zero_grad()
    known = train_data.edge_label_index
    absent = negative_sampling(train_data.edge_index, train_data.num_nodes, known.size(1))
    label = torch.cat([known.new_ones(known.size(1)), known.new_zeros(absent.size(1))]).float()
    loss = F.binary_cross_entropy_with_logits(score(train_data, torch.cat([known, absent], dim=1)), label)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test(data) -> float:
    model.eval()
    return float(roc_auc_score(data.edge_label.cpu(), score(data, data.edge_label_index).cpu()))


best_val = test_auc = 0.0
for epoch in range(1, args.epochs + 1):
    loss = train()
    val_auc = test(val_data)
    if val_auc > best_val:
        best_val, test_auc = val_auc, test(test_data)
    if epoch % 10 == 0 or epoch == args.epochs:
        print(f"Epoch {epoch:03d}, Loss {loss:.3f}, Val {val_auc:.3f}, Test at best Val {test_auc:.3f}")
