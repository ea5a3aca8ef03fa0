"""Classify graphs by several processes: each takes its share of every batch, and gradients are averaged over them.

python examples/many_processes.py

torchrun --nproc-per-node 2 examples/many_processes.py ends with the same weights, up to rounding.
"""

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch_geometric import seed_everything
from torch_geometric.data import Batch
from torch_geometric.datasets import FakeDataset

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--graphs", type=int, default=320)
parser.add_argument("--batch_size", type=int, default=32, help="Graphs in a batch of all processes together.")
args = parser.parse_args()

rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
seed_everything(0)  # the same data and the same weights in all
graphs = list(FakeDataset(args.graphs, avg_num_nodes=20, num_channels=16, num_classes=4))
test_graphs, train_graphs = graphs[: len(graphs) // 4], graphs[len(graphs) // 4 :]

model = MeshGNN(16, 32, num_layers=2, out_channels=4, heads=4, k=3, norm="layer_norm", pool="mean").to(device)
if world > 1:
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
parallel = DistributedDataParallel(model) if world > 1 else model
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)


def train(epoch: int) -> float:
    parallel.train()
    total = torch.zeros((), device=device)
    order = torch.randperm(len(train_graphs), generator=torch.Generator().manual_seed(epoch))
    for chosen in order.split(args.batch_size):
        data = Batch.from_data_list([train_graphs[i] for i in chosen[rank::world]]).to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(parallel(data.x, data.edge_index, batch=data.batch), data.y, reduction="sum")
        (loss * world / len(chosen)).backward()  # the mean over all processes is that over the batch
        optimizer.step()
        total += loss.detach()
    if world > 1:
        dist.all_reduce(total)
    return total.item() / len(train_graphs)


@torch.no_grad()
def test() -> float:
    model.eval()
    data = Batch.from_data_list(test_graphs).to(device)
    right = model(data.x, data.edge_index, batch=data.batch).argmax(-1) == data.y
    return right.float().mean().item()


for epoch in range(1, args.epochs + 1):
    loss = train(epoch)
    if rank == 0:
        print(f"Epoch {epoch:03d}, Loss {loss:.5f}, Test {test():.3f}")
if world > 1:
    dist.destroy_process_group()
