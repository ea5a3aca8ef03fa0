"""Bitcoin OTC: will the next rating between two users be negative? Known is what was rated before.

A rating is a node of :class:`tmt_geo.EventGraph`; its neighbors are the latest strictly earlier ratings of its two
users. The features of a node are how many ratings its users had given and received before it, never its own value or
any later count. Those of an edge are the relation and the value of the earlier rating. Training uses the first 55 % of
the ratings in time, validation the next 15 %, the test the last 30 %. All rows read the same. The age of the earlier
rating is an edge feature for the peers; for ours it is the time of the decay, and in some trials an edge feature too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import BitcoinOTC
from torch_geometric.nn import GATv2Conv, TransformerConv
from torch_geometric.utils import one_hot

from benchmarks.graphs import ours, peers
from benchmarks.graphs.data import place
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes
from benchmarks.graphs.train import train
from tmt_geo import EventGraph

RECENT = 5  # earlier ratings of each user that are neighbors
TRAIN, VALID = 0.55, 0.70  # where they end, in shares of all ratings
DAY = 86_400.0
RELATIONS = 4


def earlier(users: Tensor, queries: Tensor, time: Tensor, value: Tensor | None = None) -> Tensor:
    """How often each user of `queries` (E) was among `users` (E) strictly before the time of its event (E).

    With the `value` (E) of each event, the sum of these in place of their number.
    """
    moment = time.unique(return_inverse=True)[1]
    moments = int(moment.max()) + 1
    seen, order = (users * moments + moment).sort()
    value = torch.ones_like(time) if value is None else value.to(time)
    total = F.pad(value[order].cumsum(0), (1, 0))
    first = queries * moments
    return total[torch.searchsorted(seen, first + moment)] - total[torch.searchsorted(seen, first)]


def known_before(edge_index: Tensor, time: Tensor) -> Tensor:
    """Features of events (E, 4): ratings that each of both users had given and received, in log counts."""
    source, target = edge_index
    counts = [earlier(users, queries, time) for queries in (source, target) for users in (source, target)]
    return torch.stack(counts, dim=1).float().log1p()


def averages(edge_index: Tensor, rating: Tensor, time: Tensor) -> Tensor:
    """What heuristics go by (E, 4): means of earlier ratings, between -1 and 1, and 0 where there are none.

    They are those that the rated user had received (its popularity), that the rater had given, that the rater had
    received, and that this rater had given this user (the memory of a pair, as EdgeBank's).
    """
    source, target = edge_index
    pair = source * (int(edge_index.max()) + 1) + target
    sides = ((target, target), (source, source), (target, source), (pair, pair))
    means = [earlier(*side, time, rating) / earlier(*side, time).clamp(min=1) for side in sides]
    return torch.stack(means, dim=1).float() / 10


def event_data(edge_index: Tensor, rating: Tensor, time: Tensor) -> Data:
    """The graph of the ratings.

    Args:
        edge_index: The user who rates and the user rated (2, E), in order of time.
        rating: From -10 to 10 (E).
        time: Seconds (E), in double precision.

    Returns:
        Data: Events with `x` (E, 4), `y` (E) true where negative, `time` in days since the first, and `averages`
        (E, 4), which the heuristics alone read; edges with `edge_attr` (E', 5), the relation and the value of the
        earlier rating, and `lag` (E', 1), the log of the days passed.
    """
    data = EventGraph(num_recent=RECENT)(Data(edge_index=edge_index, time=time, num_nodes=int(edge_index.max()) + 1))
    source, target = data.edge_index
    edge_attr = torch.cat([one_hot(data.relation, RELATIONS), rating[source].view(-1, 1) / 10], dim=1)
    lag = ((time[target] - time[source]) / DAY).float().log1p().view(-1, 1)
    days = ((time - time[0]) / DAY).float()
    known = {"averages": averages(edge_index, rating, time), "lag": lag}
    return Data(known_before(edge_index, time), data.edge_index, edge_attr, y=rating < 0, time=days, **known)


class BitcoinTask:
    """Full-batch training over all events, with the loss of the training part alone."""

    def __init__(self, data: Data):
        ends = (0, *(round(share * data.num_nodes) for share in (TRAIN, VALID)), data.num_nodes)
        self.parts = {name: slice(*ends[i : i + 2]) for i, name in enumerate(("train", "valid", "test"))}
        fit = data.x[self.parts["train"]]
        self.data = copy.copy(data)
        self.data.x = (data.x - fit.mean(dim=0)) / fit.std(dim=0).clamp(min=1e-2)
        self.sizes = Sizes(data.num_features, 1, RELATIONS + 1)

    def fit(self, model: nn.Module, config: dict, seed: int, limits: Limits) -> Fit:
        """Train, and score by the area under the ROC curve of the negative ratings."""
        data, parts = self.data, self.parts

        def loss_of(out: Tensor, part: str) -> Tensor:
            return F.binary_cross_entropy_with_logits(out[parts[part]], data.y[parts[part]].float())

        def losses():
            yield lambda: loss_of(model(data), "train")

        def auc(out: Tensor, part: str) -> float:
            return float(roc_auc_score(data.y[parts[part]], out[parts[part]]))

        def validate() -> tuple[float, float]:
            out = model(data)
            return auc(out, "valid"), float(loss_of(out, "valid"))

        @torch.no_grad()
        def test() -> float:
            return auc(model(data), "test")

        return Fit(*train(model, losses, validate, config, limits), test)


class Averages(nn.Module):
    """A weighted sum of some averages: the more was negative, the more will be."""

    def __init__(self, sizes: Sizes, width: int, config: dict):
        super().__init__()
        self.columns = config["columns"]
        self.lin = nn.Linear(len(self.columns), 1)
        nn.init.constant_(self.lin.weight, -1.0)

    def forward(self, data: Data) -> Tensor:
        """Logits of the events (E)."""
        return self.lin(data.averages[:, self.columns]).squeeze(1)


class Heuristic(GraphRow):
    """A row whose few parameters know no width."""

    def match_width(self, config: dict, sizes: Sizes, budget: int) -> int:
        """None to match."""
        return 1


def load(folder: Path) -> BitcoinTask:
    """Read the ratings from the file that PyG's data set is made of, which keeps their order and their times."""
    dataset = BitcoinOTC(str(place(folder, "bitcoin_otc")))
    table = torch.from_numpy(np.loadtxt(dataset.raw_paths[0], delimiter=","))
    table = table[table[:, 3].argsort(stable=True)]
    users = table[:, :2].long().unique(return_inverse=True)[1].t().contiguous()
    return BitcoinTask(event_data(users, table[:, 2].float(), table[:, 3]))


def row(name: str, model: Callable, *extra: dict, kind: type[GraphRow] = GraphRow) -> GraphRow:
    """A row whose trials are the common ones with one of the extras each, in turns."""

    def build(width: int, sizes: Sizes, config: dict) -> nn.Module:
        return model(sizes, width, config)

    trials = tuple(trial | extra[i % len(extra)] for i, trial in enumerate(TRIALS))
    return kind(name, build, trials)


TRIALS = tuple({"layers": 2, "dropout": 0.1, "weight_decay": 1e-5, "lr": lr, "heads": 4} for lr in (0.01, 0.005))
SUITES = (
    GraphSuite(
        "bitcoin-otc",
        "Bitcoin OTC, 35,592 ratings: which of the last 30 % are negative, from what was rated before each; 3 seeds.",
        score="ROC-AUC, %",
        load=load,
        rows=(
            row("average of what the rated had received", Averages, {"columns": [0]}, kind=Heuristic),
            row("four averages, weighted", Averages, {"columns": [0, 1, 2, 3]}, kind=Heuristic),
            row("MLP", peers.EventMLP, {}),
            row("GATv2", partial(peers.EventStack, GATv2Conv), {}),
            row("TransformerConv", partial(peers.EventStack, TransformerConv), {}),
            row("MeshAttention, log decay", ours.EventMesh, {"decay": "log", "rate": 0.1, "lag": False},
                {"decay": "log", "rate": 0.1, "lag": True}),
            row("MeshAttention, published decay", ours.EventMesh, {"decay": "published", "rate": 0.01, "lag": False},
                {"decay": "published", "rate": 0.01, "lag": True}),
            row("MeshAttention, no decay", ours.EventMesh, {"decay": None, "rate": 1.0, "lag": False},
                {"decay": None, "rate": 1.0, "lag": True}),
        ),
        budget=20_000,
        limits=Limits(40, 15),
        seeds=(0, 1, 2),
        tuning_seeds=(100,),
    ),
)  # fmt: skip
