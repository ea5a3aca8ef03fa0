"""What a graph benchmark trains on: labels of validation and test may change, and every weight stays bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import erdos_renyi_graph, to_undirected

from benchmarks.graphs import bitcoin, cora, shapes, tu
from benchmarks.graphs import train as training
from benchmarks.graphs.__main__ import SUITES
from benchmarks.graphs.protocol import Trials
from benchmarks.graphs.suite import Limits, Sizes, count_parameters
from tmt_geo.compare.run import Run

CLASSES = 4


def cora_task(changed, edges=True):
    nodes = torch.arange(48)
    given = torch.eye(48, 20) + (torch.rand(48, 20) < 0.3)
    data = Data(given, to_undirected(erdos_renyi_graph(48, 0.1)) if edges else None, y=nodes % CLASSES, given=given)
    data.train_mask, data.val_mask, data.test_mask = nodes % 3 == 0, nodes % 3 == 1, nodes % 3 == 2
    if changed:
        data.y = data.y * data.train_mask
    return cora.CoraTask(data)


def tu_task(changed):
    graphs = [Data(torch.randn(n % 7 + 3, 5), to_undirected(erdos_renyi_graph(n % 7 + 3, 0.5)),
                   y=torch.tensor([n % CLASSES])) for n in range(80)]  # fmt: skip
    task = tu.TUTask(graphs)  # which parts the graphs by the labels they have now
    for n in (*tu.split(task.y, 0)[1], *tu.split(task.y, 0)[2]) if changed else ():
        task.graphs[n].y = torch.tensor([0])
    return task


def shapes_task(changed):
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2], [2, 3, 3, 3]])
    meshes = [Data(pos=corners * torch.tensor([1.0, 1.0, n + 1.0]), face=faces, y=torch.tensor([n]))
              for n in range(CLASSES)]  # fmt: skip
    task = shapes.ShapesTask(meshes, meshes)
    for part in (task.valid, task.test) if changed else ():
        part.y = torch.zeros_like(part.y)
    return task


def bitcoin_task(changed):
    edge_index = torch.randint(9, (2, 80))
    edge_index[0, edge_index[0] == edge_index[1]] = 9
    rating = torch.where(torch.rand(80) < 0.4, -1.0, 1.0) * torch.randint(1, 11, (80,))
    time = (86_400.0 * torch.arange(80)).double()
    if changed:
        rating[round(0.55 * 80) :] *= -1  # sources of later ratings, and of them alone
    return bitcoin.BitcoinTask(bitcoin.event_data(edge_index, rating, time))


TASKS = {
    "cora": cora_task, "cora-no-edges": lambda changed: cora_task(changed, edges=False), "enzymes": tu_task,
    "shapes": shapes_task, "bitcoin-otc": bitcoin_task,
}  # fmt: skip
TRIED = [suite for suite in SUITES if suite.name in TASKS]
CASES = [(suite, row) for suite in TRIED for row in (suite.rows[0], suite.rows[1], suite.rows[-1])]


@pytest.fixture
def trained(monkeypatch):
    """Weights after every step, and the score on the test split."""
    monkeypatch.setattr(shapes, "cloud", shapes.Compose([shapes.SamplePoints(16), *shapes.cloud.transforms[1:]]))
    step = training.step

    def run(suite, row, changed):
        weights = []

        def remember(optimizer, loss):
            step(optimizer, loss)
            weights.append(torch.cat([p.detach().flatten() for g in optimizer.param_groups for p in g["params"]]))

        monkeypatch.setattr(training, "step", remember)
        torch.manual_seed(0)
        task = TASKS[suite.name](changed)
        torch.manual_seed(1)
        config = row.trials[0] | {"k": 3}
        model = row.build(8 * config.get("heads", 1), task.sizes, config)
        fit = task.fit(model, config, 0, Limits(4, 4))
        return torch.stack(weights), fit.valid, fit.test()

    return run


@pytest.mark.parametrize(("suite", "row"), CASES, ids=[f"{suite.name}-{row.name}" for suite, row in CASES])
def test_labels_of_validation_and_test_do_not_reach_the_weights(suite, row, trained):
    weights, valid, test = trained(suite, row, changed=False)
    others, other_valid, other_test = trained(suite, row, changed=True)
    assert len(weights) >= 4 and not torch.equal(weights[0], weights[-1])
    assert torch.equal(weights, others)
    assert (valid, test) != (other_valid, other_test)  # they were changed


SIZES = {
    "cora": Sizes(1433, 7), "cora-no-edges": Sizes(1433, 7), "mutag": Sizes(7, 2), "enzymes": Sizes(21, 6),
    "imdb-binary": Sizes(65, 2), "shapes": Sizes(3, 40), "bitcoin-otc": Sizes(4, 1, 5),
    "mutag-walks": Sizes(16, 2, 4), "enzymes-walks": Sizes(30, 6), "imdb-binary-walks": Sizes(74, 2),
    "chameleon": Sizes(2325, 5), "squirrel": Sizes(2089, 5), "minesweeper": Sizes(7, 2), "tolokers": Sizes(10, 2),
}  # fmt: skip


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_trial_of_every_row_is_within_half_a_step_of_the_budget(suite):
    """A step is the least by which a width may change: one channel for each head."""
    task = type("OnlySizes", (), {"sizes": SIZES[suite.name]})()
    for row in suite.rows:
        if isinstance(row, bitcoin.Heuristic):
            continue
        distinct = {json_like(trial): trial for trial in row.trials}
        trials = Trials(Run(suite, replace(row, trials=tuple(distinct.values())), None), task)
        for trial, config in enumerate(distinct.values()):
            width, heads = trials.widths[trial], config.get("heads", 1)
            assert width % heads == 0 and width > heads
            built = [count_parameters(row.build(width + s * heads, task.sizes, config)) for s in (-1, 0, 1)]
            assert trials.params[trial] in built
            assert min(abs(count - suite.budget) for count in built) == abs(trials.params[trial] - suite.budget)


def json_like(trial):
    """What decides the size of a model."""
    return tuple((key, str(value)) for key, value in trial.items() if key not in ("lr", "weight_decay", "dropout"))
