"""Which edges decide? A model learns to find houses in a graph, and an explainer is asked for the edges of a house.

python examples/explain.py
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch_geometric import seed_everything
from torch_geometric.datasets import ExplainerDataset
from torch_geometric.datasets.graph_generator import BAGraph
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.transforms import LocalDegreeProfile
from torch_geometric.utils import k_hop_subgraph

from tmt_geo import MeshGNN

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=300)
parser.add_argument("--nodes", type=int, default=12, help="Nodes of houses that are explained.")
args = parser.parse_args()

seed_everything(0)
dataset = ExplainerDataset(BAGraph(num_nodes=300, num_edges=5), "house", num_motifs=60, transform=LocalDegreeProfile())
data = dataset[0]
x = (data.x - data.x.mean(0)) / data.x.std(0)
train_mask = torch.rand(data.num_nodes) < 0.8

model = MeshGNN(x.size(1), 32, num_layers=3, out_channels=int(data.y.max()) + 1, heads=2, residual=True)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005, weight_decay=1e-4)
for _ in range(args.epochs):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x, data.edge_index)[train_mask], data.y[train_mask])
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad():
    right = (model(x, data.edge_index).argmax(-1) == data.y).float()
print(f"Train {right[train_mask].mean():.3f}, Test {right[~train_mask].mean():.3f}")

explainer = Explainer(
    model, GNNExplainer(epochs=100), explanation_type="phenomenon", edge_mask_type="object",
    model_config={"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"},
)  # fmt: skip
found, true = [], []
houses = (data.node_mask > 0).nonzero().flatten()
for node in houses[torch.randperm(len(houses))[: args.nodes]].tolist():
    explanation = explainer(x, data.edge_index, target=data.y, index=node)
    reached = k_hop_subgraph(node, 3, data.edge_index)[3]  # the edges that can matter
    found.append(explanation.edge_mask[reached])
    true.append(data.edge_mask[reached])
print(f"AUC of the edges of houses: {roc_auc_score(torch.cat(true), torch.cat(found)):.3f}")
