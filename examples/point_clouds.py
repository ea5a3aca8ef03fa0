"""Classify point clouds by a mesh that every layer finds anew, as DGCNN does.

python examples/point_clouds.py
"""

import argparse

import torch
import torch.nn.functional as F
from data_folder import data_folder
from torch_geometric import seed_everything
from torch_geometric.datasets import GeometricShapes
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, NormalizeScale, RandomRotate, SamplePoints

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=60)
parser.add_argument("--points", type=int, default=128)
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Other points in each epoch, turned around the third axis.
transform = Compose([SamplePoints(args.points), NormalizeScale(), RandomRotate(180, axis=2)])
root = data_folder("geometric_shapes")
train_set, test_set = (GeometricShapes(root, train=part, transform=transform) for part in (True, False))
train_loader = DataLoader(train_set, batch_size=20, shuffle=True)
test_loader = DataLoader(test_set, batch_size=40)

model = MeshGNN(
    3, 64, num_layers=3, out_channels=train_set.num_classes,
    heads=4, k=12, metric="euclidean", norm="batch_norm", jk="cat", pool=["max", "mean"], residual=True,
).to(device)  # fmt: skip
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def forward(data):
    return model(data.pos, batch=data.batch)


def train() -> float:
    model.train()
    total = 0.0
    for data in train_loader:
        data = data.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(data), data.y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        total += loss.item() * data.num_graphs
    return total / len(train_set)


@torch.no_grad()
def test() -> float:
    model.eval()
    right = sum(int((forward(data.to(device)).argmax(-1) == data.y).sum()) for data in test_loader)
    return right / len(test_set)


for epoch in range(1, args.epochs + 1):
    loss = train()
    if epoch % 10 == 0 or epoch == args.epochs:
        print(f"Epoch {epoch:03d}, Loss {loss:.3f}, Test {test():.3f}")
