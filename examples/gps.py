"""A graph transformer (GPS) whose local layers are mesh attention, on graphs with random-walk encodings.

python examples/gps.py
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.datasets import FakeDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GPSConv, global_mean_pool
from torch_geometric.transforms import AddRandomWalkPE

from tmt_geo import MeshAttention

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--channels", type=int, default=32)
args = parser.parse_args()

seed_everything(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
dataset = FakeDataset(200, avg_num_nodes=30, avg_degree=4, num_channels=8, num_classes=3)
graphs = [AddRandomWalkPE(walk_length=8, attr_name="pe")(data) for data in dataset]
train_loader = DataLoader(graphs[:160], batch_size=32, shuffle=True)
test_loader = DataLoader(graphs[160:], batch_size=40)


class GPS(nn.Module):
    def __init__(self, channels: int, num_layers: int = 3, heads: int = 4):
        super().__init__()
        self.lin_in = nn.Linear(dataset.num_features, channels - 8)
        self.lin_pe = nn.Linear(8, 8)
        self.convs = nn.ModuleList(
            GPSConv(channels, MeshAttention(channels, channels // heads, heads=heads), heads=heads)
            for _ in range(num_layers)
        )
        self.lin_out = nn.Linear(channels, dataset.num_classes)

    def forward(self, data):
        x = torch.cat([self.lin_in(data.x), self.lin_pe(data.pe)], dim=-1)
        for conv in self.convs:
            x = conv(x, data.edge_index, data.batch)
        return self.lin_out(global_mean_pool(x, data.batch))


model = GPS(args.channels).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)


def train() -> float:
    model.train()
    total = 0.0
    for data in train_loader:
        data = data.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), data.y)
        loss.backward()
        optimizer.step()
        total += loss.item() * data.num_graphs
    return total / len(train_loader.dataset)


@torch.no_grad()
def test(loader: DataLoader) -> float:
    model.eval()
    right = sum(int((model(data.to(device)).argmax(-1) == data.y).sum()) for data in loader)
    return right / len(loader.dataset)


for epoch in range(1, args.epochs + 1):
    loss = train()
    print(f"Epoch {epoch:03d}, Loss {loss:.3f}, Train {test(train_loader):.3f}, Test {test(test_loader):.3f}")
