"""The harness of the graph benchmark itself, on tiny graphs."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import erdos_renyi_graph, to_undirected

from benchmarks.graphs import bitcoin, cora, heterophilous, results, shapes, tu
from benchmarks.graphs import heads as heads_of_graphs
from benchmarks.graphs.__main__ import SUITES, main
from benchmarks.graphs.data import place
from benchmarks.graphs.heads import GraphLevel, NearestLevel
from benchmarks.graphs.protocol import Trials, run_row
from benchmarks.graphs.results import PartialResult
from benchmarks.graphs.suite import Fit, GraphRow, GraphSuite, Limits, Sizes, count_parameters
from benchmarks.graphs.train import train
from benchmarks.readme import shown, write
from tmt_geo.compare.run import Run
from tmt_geo.evaluate.match_width import match_width

WIDTH = 8


class ToyTask:
    """Counts its calls; a trial is as good as its `quality`, a little better with every seed."""

    sizes = Sizes(3, 2)

    def __init__(self):
        self.fits, self.limits, self.tests, self.fail_at = [], [], [], None

    def fit(self, model, config, seed, limits):
        if len(self.fits) == self.fail_at:
            raise KeyboardInterrupt
        self.fits.append((config["quality"], seed))
        self.limits.append(limits)
        valid = config["quality"] + seed / 1000

        def test():
            self.tests.append((config["quality"], seed))
            return valid / 2

        return Fit(valid, 0, 0.5, test)


def linear(width, sizes, config):
    return nn.Linear(sizes.in_channels, width)


def toy_row(name="a", qualities=(0.1, 0.7, 0.4), build=linear):
    return GraphRow(name, build, tuple({"quality": quality} for quality in qualities))


def toy_suite(task, *rows, **options):
    kept = {"seeds": (0, 1, 2), "tuning_seeds": (100, 101), "budget": 400, "limits": Limits(1, 1)} | options
    return GraphSuite("toy", "About.", rows or (toy_row(),), "accuracy, %", lambda folder: task, **kept)


def whole(suite, row):
    """The run of a row, all its seeds together."""
    return Run(suite, row, None)


def finish(suite, task, folder):
    """All of the first row."""
    run = whole(suite, suite.rows[0])
    return run_row(run, task, PartialResult(folder, run))


def heads(config):
    return config.get("heads", 1)


# The protocol


def test_the_trial_that_validates_best_is_chosen_and_no_other_is_tested(tmp_path):
    task = ToyTask()
    suite = toy_suite(task)
    result = finish(suite, task, tmp_path)
    assert result["chosen"] == {"quality": 0.7}
    assert task.tests == [(0.7, 0), (0.7, 1), (0.7, 2)]
    assert task.fits == [(q, seed) for q in (0.1, 0.7, 0.4) for seed in (100, 101)] + task.tests
    tests = torch.tensor([0.7, 0.701, 0.702], dtype=torch.double) / 2
    assert result["mean"] == pytest.approx(float(tests.mean()))
    assert result["standard_error"] == pytest.approx(float(tests.std()) / 3**0.5)
    assert [run["test"] for run in result["runs"]] == pytest.approx(tests.tolist())
    assert [trial["valid"] for trial in result["trials"]] == [[q + 0.1, q + 0.101] for q in (0.1, 0.7, 0.4)]
    assert (result["params"], result["step_seconds"]) == (400, 0.5)


def test_folds_choose_for_themselves_and_are_tested_once(tmp_path):
    class Fickle(ToyTask):
        def fit(self, model, config, seed, limits):
            fit = super().fit(model, config, seed, limits)
            return fit._replace(valid=-fit.valid) if seed == 1 else fit  # in this fold the worst looks best

    task = Fickle()
    suite = toy_suite(task, tuning_seeds=(), tuning_limits=Limits(1, 0))
    result = finish(suite, task, tmp_path)
    assert task.fits[:4] == [(0.1, 0), (0.7, 0), (0.4, 0), (0.7, 0)]
    assert task.limits[:4] == [Limits(1, 0)] * 3 + [Limits(1, 1)]
    assert [run["trial"] for run in result["runs"]] == [1, 0, 1] and result["chosen"] == {"quality": 0.7}
    assert task.tests == [(0.7, 0), (0.1, 1), (0.7, 2)]
    assert all(len(trial["valid"]) == 3 for trial in result["trials"])


def test_a_killed_run_loses_only_the_fit_in_flight(tmp_path):
    task = ToyTask()
    suite = toy_suite(task)
    task.fail_at = 4
    with pytest.raises(KeyboardInterrupt):
        main(["--out", str(tmp_path)], (suite,))
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["a.part"]
    task.fail_at = None
    assert main(["--out", str(tmp_path)], (suite,)) == 0
    assert len(task.fits) == len(set(task.fits)) == 3 * 2 + 3
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["a.json"]


def test_what_another_plan_has_begun_is_not_gone_on_with(tmp_path):
    task = ToyTask()
    old, new = toy_suite(task), toy_suite(task, limits=Limits(2, 1))
    assert PartialResult(tmp_path, whole(old, old.rows[0])).once("run 0", lambda: 1) == 1
    assert PartialResult(tmp_path, whole(old, old.rows[0])).once("run 0", lambda: 2) == 1
    assert PartialResult(tmp_path, whole(new, new.rows[0])).once("run 0", lambda: 3) == 3


def test_a_finished_row_is_not_run_again_until_its_plan_changes(tmp_path, capsys):
    task = ToyTask()
    suite = toy_suite(task, toy_row("a"), toy_row("b"))
    assert main(["--out", str(tmp_path), "--rows", "b"], (suite,)) == 0
    fits = len(task.fits)
    assert main(["--out", str(tmp_path)], (suite,)) == 0 and len(task.fits) == 2 * fits  # a alone
    assert main(["--out", str(tmp_path)], (suite,)) == 0 and len(task.fits) == 2 * fits
    changed = replace(suite, rows=(suite.rows[0], toy_row("b", (0.1, 0.7, 0.5))))
    assert main(["--out", str(tmp_path)], (changed,)) == 0 and len(task.fits) == 3 * fits
    assert "| b | 400 |" in capsys.readouterr().out


def test_a_row_that_fails_is_reported_and_the_others_run(tmp_path, capsys):
    def broken(width, sizes, config):
        raise RuntimeError("no such layer")

    task = ToyTask()
    suite = toy_suite(task, toy_row("bad", build=broken), toy_row("good"))
    assert main(["--out", str(tmp_path)], (suite,)) == 1
    assert "toy, bad: RuntimeError: no such layer" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["good.json"]


@pytest.mark.parametrize(
    "options", [["--quick"], ["--quick", "--write", "--out", "elsewhere"], ["--rows", "none"], ["--suites", "none"]]
)
def test_the_command_refuses_what_would_mislead(options):
    with pytest.raises(SystemExit):
        main(options, (toy_suite(ToyTask()),))


def test_a_quick_run_is_kept_apart_from_a_real_one(tmp_path):
    suite = toy_suite(ToyTask())
    assert main(["--quick", "--out", str(tmp_path)], (suite,)) == 0
    assert whole(suite.quick(), suite.quick().rows[0]).load(tmp_path) is not None
    assert whole(suite, suite.rows[0]).load(tmp_path) is None


# The training loop


class Script(nn.Module):
    """One weight; training moves it by one an epoch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))


def scripted(scores, losses, patience):
    """Train on given validation results, an epoch each."""
    model, seen = Script(), []

    def validate():
        assert not model.training and not torch.is_grad_enabled()
        seen.append((scores[len(seen)], losses[len(seen)]))
        return seen[-1]

    def epoch():
        assert model.training
        model.seen += 1
        yield lambda: -model.weight

    config = {"lr": 1.0, "weight_decay": 0.0}
    return model, train(model, epoch, validate, config, Limits(len(scores), patience)), len(seen)


def test_the_best_epoch_comes_back_ties_by_the_loss():
    model, trained, epochs = scripted([0.1, 0.5, 0.5, 0.5, 0.2], [9, 3, 2, 4, 1], 10)
    assert (trained.valid, trained.epoch, epochs) == (0.5, 2, 5)
    assert model.weight.item() == pytest.approx(3, rel=1e-3) and model.seen == 3  # buffers too


def test_patience_ends_a_run():
    _, trained, epochs = scripted([0.1, 0.5, 0.4, 0.4, 0.4, 0.9], [1] * 6, 3)
    assert (trained.epoch, epochs) == (1, 5)


# Equal conditions


@pytest.mark.parametrize("multiple", [1, 4])
def test_the_nearest_width_is_found(multiple):
    sizes = [multiple * (i + 1) for i in range(400)]
    for budget in (10, 100, 1333, 2000):
        width = match_width(lambda width: count_parameters(nn.Linear(7, width)), budget, multiple)
        assert width % multiple == 0
        assert abs(8 * width - budget) == min(abs(8 * size - budget) for size in sizes)


def test_widths_meet_the_budget_within_two_percent_where_heads_allow():
    suites = {
        "cora": Sizes(1433, 7),
        "enzymes": Sizes(30, 6),
        "mutag": Sizes(16, 2, 4),
        "shapes": Sizes(3, 40),
        "chameleon": Sizes(2325, 5),
        "bitcoin-otc": Sizes(4, 1, 5),
    }
    for suite in SUITES:
        sizes = suites.get(suite.name)
        if sizes is None:
            continue
        for row in suite.rows:
            if isinstance(row, bitcoin.Heuristic):
                continue
            config = row.trials[0]
            build = partial(row.build, sizes=sizes, config=config)
            width = row.match_width(config, sizes, suite.budget)
            params = [count_parameters(build(width + step * heads(config))) for step in (-1, 0, 1)]
            off = [abs(count - suite.budget) for count in params]
            assert off[1] == min(off), row.name
            if heads(config) == 1:
                assert off[1] <= 0.02 * suite.budget, row.name
            assert off[1] <= 0.12 * suite.budget, row.name


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_rows_of_a_suite_have_equal_chances(suite):
    assert len({len(row.trials) for row in suite.rows}) == 1
    assert len({row.name for row in suite.rows}) == len(suite.rows)
    assert not set(suite.seeds) & set(suite.tuning_seeds) and len(suite.seeds) > 1
    shared = ("lr", "weight_decay", "dropout", "layers", "pool")
    for trials in zip(*(row.trials for row in suite.rows), strict=True):
        assert len({tuple(trial.get(key) for key in shared) for trial in trials}) == 1
    for row in suite.rows:
        assert json.loads(json.dumps(suite.plan(row))) == suite.plan(row)
        name = whole(suite, row).file_name
        assert name == name.lower().replace(" ", "")


# The suites


def small_cora(edges=True):
    x = F.normalize((torch.rand(40, 30) < 0.2).float() + 1e-3 * torch.eye(40, 30), p=1)
    mask = torch.arange(40) % 3
    data = Data(x, to_undirected(erdos_renyi_graph(40, 0.1)) if edges else None, y=torch.arange(40) % 4)
    data.given, data.train_mask, data.val_mask, data.test_mask = x, mask == 0, mask == 1, mask == 2
    return cora.CoraTask(data)


def small_splits(classes=4):
    parts = torch.rand(40, 10).argsort(dim=0) % 3
    masks = {f"{name}_mask": parts == part for part, name in enumerate(("train", "val", "test"))}
    edge_index = to_undirected(erdos_renyi_graph(40, 0.1))
    return heterophilous.SplitsTask(Data(torch.rand(40, 6), edge_index, y=torch.arange(40) % classes, **masks))


def small_tu(edge_channels=0):
    graphs = [Data(torch.randn(n, 5), to_undirected(erdos_renyi_graph(n, 0.4)), y=torch.tensor([n % 2]))
              for n in range(4, 64)]  # fmt: skip
    for graph in graphs if edge_channels else ():
        graph.edge_attr = torch.randn(graph.num_edges, edge_channels)
    return tu.TUTask(graphs)


def small_shapes():
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2], [2, 3, 3, 3]])
    meshes = [Data(pos=corners * torch.tensor([1.0, 1.0, s]), face=faces, y=torch.tensor([i]))
              for i, s in enumerate((1.0, 3.0))]  # fmt: skip
    return shapes.ShapesTask(meshes, meshes)


def ratings(events=60, users=8):
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(users, (2, events), generator=generator)
    edge_index[0, edge_index[0] == edge_index[1]] = users
    time = torch.randint(0, 30 * 86_400, (events,), generator=generator).double().sort().values
    time[10:13] = time[10].clone()  # at once
    return edge_index, torch.randint(1, 11, (events,), generator=generator) * sign(events, generator), time


def sign(events, generator):
    return 1.0 - 2.0 * (torch.rand(events, generator=generator) < 0.3)


def small_bitcoin():
    return bitcoin.BitcoinTask(bitcoin.event_data(*ratings()))


TASKS = {"cora": small_cora, "cora-no-edges": partial(small_cora, edges=False), "shapes": small_shapes,
         "bitcoin-otc": small_bitcoin, "mutag-walks": partial(small_tu, 3), "mutag": small_tu,
         "chameleon": small_splits, "minesweeper": partial(small_splits, 2)}  # fmt: skip


TRAINED = [(suite, row) for suite in SUITES if suite.name in TASKS for row in suite.rows]


@pytest.mark.parametrize(("suite", "row"), TRAINED, ids=[f"{suite.name}-{row.name}" for suite, row in TRAINED])
def test_every_row_trains_and_is_scored(suite, row, monkeypatch):
    monkeypatch.setattr(shapes, "cloud", shapes.Compose([shapes.SamplePoints(24), *shapes.cloud.transforms[1:]]))
    task = TASKS[suite.name]()
    seen = set()
    for config in row.trials:
        kind = str([value for key, value in config.items() if key not in ("lr", "weight_decay", "dropout")])
        if kind in seen:  # the same model, trained otherwise
            continue
        seen.add(kind)
        model = row.build(WIDTH * heads(config), task.sizes, config | {"k": min(config.get("k", 3), 3)})
        before = [weight.clone() for weight in model.parameters()]
        fit = task.fit(model, config, 0, Limits(1, 1))
        assert 0 <= fit.valid <= 1 and 0 <= fit.test() <= 1
        assert fit.step_seconds > 0 and fit.epoch == 0
        moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        assert sum(moved) > len(moved) / 2


def test_folds_part_the_graphs_and_validation_lies_in_training():
    y = torch.arange(120) % 3 // 2  # two of one class to one of the other
    tested = []
    for fold in range(tu.FOLDS):
        fit, valid, test = tu.split(y, fold)
        assert sorted([*fit, *valid, *test]) == list(range(120))
        assert len(valid) == 11 and len(test) == 12
        assert y[test].sum() == 4 and abs(int(y[valid].sum()) - 11 / 3) < 1
        again = tu.split(y, fold)
        assert all(np.array_equal(a, b) for a, b in zip((fit, valid, test), again, strict=True))
        tested += test.tolist()
    assert sorted(tested) == list(range(120))


class Recorder(nn.Module):
    """A model that remembers the graphs of each batch and whether it was training on them."""

    def __init__(self):
        super().__init__()
        self.lin, self.seen = nn.Linear(1, 2), {True: set(), False: set()}

    def forward(self, data):
        self.seen[self.training] |= set(data.y.tolist())
        return self.lin(torch.ones(data.y.numel(), 1))


def test_a_fold_trains_on_its_training_part_alone(monkeypatch):
    task = small_tu()
    fit, valid, test = tu.split(task.y, 3)
    for i, graph in enumerate(task.graphs):
        graph.y = torch.tensor([i])
    monkeypatch.setattr(tu.F, "cross_entropy", lambda out, y: out.sum())
    model = Recorder()
    config = {"lr": 0.1, "weight_decay": 0.0}
    fitted = task.fit(model, config, 3, Limits(1, 1))
    assert model.seen == {True: set(fit), False: set(valid)}
    fitted.test()
    assert model.seen[False] == set(valid) | set(test)


def test_test_graphs_do_not_scale_the_features(monkeypatch):
    task, scores = small_tu(), []
    for scale in (1.0, 1000.0):
        for i in tu.split(task.y, 0)[2]:
            task.graphs[i].x = task.graphs[i].x * scale
        torch.manual_seed(0)
        row = tu.ROWS[1]
        model = row.build(WIDTH, task.sizes, row.trials[0])
        scores.append(task.fit(model, row.trials[0], 0, Limits(2, 2)).valid)
        scores.append([weight.clone() for weight in model.parameters()])
    assert scores[0] == scores[2]
    assert all(torch.equal(a, b) for a, b in zip(scores[1], scores[3], strict=True))


def test_cora_is_fitted_on_training_labels_and_chosen_by_validation():
    row = cora.WITH_EDGES.rows[1]

    def trained(flipped):
        task = small_cora()
        task.data.y = task.data.y.clone()
        task.data.y[flipped(task.data)] = 0
        torch.manual_seed(0)
        model = row.build(WIDTH, task.sizes, row.trials[0])
        return task.fit(model, row.trials[0], 0, Limits(5, 5)), model.state_dict()

    torch.manual_seed(1)
    keep = torch.get_rng_state()
    outcomes = []
    for flipped in (lambda data: torch.zeros(40, dtype=torch.bool), lambda data: data.test_mask):
        torch.set_rng_state(keep)
        outcomes.append(trained(flipped))
    (plain, weights), (changed, other) = outcomes
    assert plain.valid == changed.valid and plain.test() != changed.test()
    assert all(torch.equal(weights[key], other[key]) for key in weights)


def test_a_split_is_fitted_on_its_training_nodes_and_chosen_by_its_validation_nodes():
    row, config = heterophilous.ROWS[1], heterophilous.TRIALS[0] | {"residual": True}
    for flipped, moves in (("train_mask", "weights"), ("val_mask", "valid"), ("test_mask", "test")):
        outcomes = []
        for change in (False, True):
            torch.manual_seed(0)
            task = small_splits(5)
            if change:
                task.data.y = task.data.y.where(~getattr(task.data, flipped)[:, 3], 4 - task.data.y)
            model = row.build(WIDTH, task.sizes, config)
            fit = task.fit(model, config, 3, Limits(1, 1))
            weights = sum(part.detach().abs().sum().item() for part in model.parameters())
            outcomes.append({"weights": weights, "valid": fit.valid, "test": fit.test()})
        moved = {key for key in outcomes[0] if outcomes[0][key] != outcomes[1][key]}
        assert moved == {moves} or (moves == "weights" and moves in moved), flipped


def test_two_classes_are_scored_by_their_order():
    task = small_splits(2)
    out = torch.tensor([[0.0, 9.0], [0.0, 3.0], [0.0, 5.0], [0.0, 1.0]])
    assert task.score(out, torch.tensor([1, 0, 1, 0])) == 1.0
    assert task.score(out, torch.tensor([1, 1, 0, 0])) == 0.75
    assert small_splits(4).score(out, torch.tensor([1, 1, 0, 0])) == 0.5


def test_dropout_thins_the_words_and_nothing_else():
    task = small_cora()
    thin, given = task.thinned(0.5).x, task.data.given
    kept = thin != 0
    torch.testing.assert_close(thin[kept], 2 * given[kept])
    assert 0.3 < kept.sum() / (given != 0).sum() < 0.7
    assert torch.equal(task.data.x, given)


def test_nearest_edges_are_those_of_the_untouched_features():
    task = small_cora(edges=False)
    model = NearestLevel(nn.Identity(), 3)
    model.encoder.forward = lambda x, edge_index, batch: edge_index
    first = model(task.thinned(0.9))
    assert torch.equal(first, NearestLevel(model.encoder, 3)(task.data))


def test_nodes_know_their_degrees_and_their_walks():
    """A triangle with a tail: the walk is back from the tail after two steps with a third, from its root after 3."""
    edge_index = to_undirected(torch.tensor([[0, 1, 2, 2], [1, 2, 0, 3]]))
    graph = tu.encoded(Data(edge_index=edge_index, num_nodes=4))
    one_hot, degrees, walk = graph.x.split([tu.LARGEST_DEGREE + 1, 1, 8], dim=1)
    assert one_hot.argmax(dim=1).tolist() == degrees.flatten().tolist() == [2, 2, 3, 1]
    torch.testing.assert_close(walk[3, :3], torch.tensor([0, 1 / 3, 0]))
    torch.testing.assert_close(walk[2, :3], torch.tensor([0, 2 / 3, 2 * 1 / 3 / 2 / 2]))
    torch.testing.assert_close(tu.encoded(Data(torch.ones(4, 2), edge_index)).x[:, 2:], graph.x[:, -9:])


@pytest.mark.parametrize("pool", heads_of_graphs.POOLS)
def test_readouts(pool):
    model = GraphLevel(nn.Identity(), 2, 3, {"pool": pool, "dropout": 0.0})
    model.encoder.forward = lambda x, edge_index, batch, edge_attr: x
    model.readout = nn.Identity()
    graphs = Batch.from_data_list([Data(torch.tensor([[1.0, 2.0], [5.0, 0.0]])), Data(torch.tensor([[3.0, 4.0]]))])
    expected = {"mean": [3.0, 1.0], "sum": [6.0, 2.0], "max": [5.0, 2.0], "mean and max": [3.0, 1.0, 5.0, 2.0]}[pool]
    assert model(graphs).tolist() == [expected, [3.0, 4.0] * (len(expected) // 2)]


def test_bonds_reach_the_rows_that_can_use_them():
    task, without = small_tu(3), {"MLP", "GCN", "GIN", "DynamicEdgeConv"}
    one = Batch.from_data_list(task.graphs[:2])
    other = one.clone()
    other.edge_attr = -one.edge_attr
    for row in tu.SUITES[1].rows:
        config = row.trials[0]
        model = row.build(WIDTH * heads(config), task.sizes, config).eval()
        assert torch.equal(model(one), model(other)) == (row.name in without), row.name


def test_the_histogram_of_degrees_is_of_all_graphs():
    task = small_tu()
    count = sum(torch.bincount(graph.edge_index[1].bincount(minlength=graph.num_nodes), minlength=64)
                for graph in task.graphs)  # fmt: skip
    assert list(task.sizes.degrees) == count[: len(task.sizes.degrees)].tolist() and count.sum() == sum(range(4, 64))


def test_graphs_of_a_batch_do_not_meet():
    task = small_tu(3)
    graphs = task.graphs[:2]
    for row in tu.SUITES[1].rows:
        config = row.trials[3]
        model = row.build(WIDTH * heads(config), task.sizes, config).eval()
        assert isinstance(model, GraphLevel)
        both = model(Batch.from_data_list(graphs))
        alone = torch.cat([model(Batch.from_data_list([graph])) for graph in graphs])
        torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5, msg=row.name)


def test_clouds_for_the_test_are_drawn_once_and_those_for_training_anew(monkeypatch):
    monkeypatch.setattr(shapes, "cloud", shapes.Compose([shapes.SamplePoints(24), *shapes.cloud.transforms[1:]]))
    one, other = small_shapes(), small_shapes()
    assert torch.equal(one.test.x, other.test.x) and torch.equal(one.valid.x, other.valid.x)
    first, second = (torch.cat([batch.x for batch in one.batches()]) for _ in range(2))
    assert not torch.equal(first, second)
    assert one.test.num_graphs == 2 * shapes.DRAWS["test"]


def test_the_search_of_the_peer_finds_the_same_edges():
    pytest.importorskip("torch_cluster")
    x, batch = torch.rand(50, 3), torch.arange(50) // 25
    found = [{tuple(edge) for edge in search(x, 4, batch).t().tolist()} for search in shapes.peers.SEARCHES.values()]
    assert found[0] == found[1] and len(found[0]) == 200


def test_a_step_is_timed_beside_the_quicker_peer(monkeypatch):
    pytest.importorskip("torch_cluster")
    monkeypatch.setattr(shapes, "cloud", shapes.Compose([shapes.SamplePoints(24), *shapes.cloud.transforms[1:]]))
    monkeypatch.setattr(shapes, "REPEATS", 1)
    task, row = small_shapes(), shapes.SUITES[0].rows[0]
    model = row.build(WIDTH, task.sizes, row.trials[0])
    before = [weight.clone() for weight in model.parameters()]
    result = shapes.compare(task, model)
    assert result["peer"] == result["peers"][result["peer_name"]] == min(result["peers"].values())
    assert result["ratio"] == result["ours"] / result["peer"] and len(result["peers"]) == 2
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_counts_are_of_strictly_earlier_events():
    users, time = torch.tensor([0, 1, 0, 0, 2]), torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0])
    assert bitcoin.earlier(users, users, time).tolist() == [0, 0, 1, 1, 0]
    queries = torch.tensor([1, 0, 1, 2, 0])
    assert bitcoin.earlier(users, queries, time).tolist() == [0, 0, 1, 0, 3]
    assert bitcoin.earlier(users, queries, time, torch.tensor([5, -2, 3, -7, 1])).tolist() == [0, 0, -2, 0, 1]


def test_averages_are_of_strictly_earlier_ratings():
    edge_index = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 1, 2, 1]])
    rating, time = torch.tensor([-4.0, 10.0, 8.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 3.0, 4.0])
    expected = [[0, 0, 0, 0], [0, 0, -0.4, 0], [-0.4, -0.4, 1, -0.4], [0, -0.4, 1, 0], [0.2, 1, 0.2, 0]]
    torch.testing.assert_close(bitcoin.averages(edge_index, rating, time), torch.tensor(expected))


@pytest.mark.parametrize("row", bitcoin.SUITES[0].rows, ids=lambda row: row.name)
@pytest.mark.parametrize("when", ["later", "now"])
def test_predictions_do_not_move_when_later_ratings_do(row, when):
    edge_index, rating, time = ratings()
    cut = 30
    while time[cut] == time[cut - 1]:
        cut += 1
    changed = (edge_index.clone(), rating.clone(), time.clone())
    if when == "later":
        changed[0][:, cut + 1 :] = changed[0][:, cut + 1 :].flip(1)
        changed[2][cut + 1 :] += torch.arange(1, time.numel() - cut) * 40_000.0
    changed[1][cut:] *= -1  # what is predicted is changed too: an event must not read its own rating
    ahead = [bitcoin.event_data(edge_index, rating, time), bitcoin.event_data(*changed)]
    sizes = Sizes(4, 1, bitcoin.RELATIONS + 1)
    for config in row.trials:
        model = row.build(WIDTH * heads(config), sizes, config).eval()
        first, second = (model(data) for data in ahead)
        torch.testing.assert_close(first[: cut + 1], second[: cut + 1])
        assert not torch.allclose(first[cut + 1 :], second[cut + 1 :]) or (when == "now" and "MLP" in row.name)


def test_the_parts_of_bitcoin_follow_in_time():
    task = small_bitcoin()
    parts = task.parts
    assert (parts["train"], parts["valid"], parts["test"]) == (slice(0, 33), slice(33, 42), slice(42, 60))
    x = bitcoin.event_data(*ratings()).x
    changed = bitcoin.event_data(*ratings())
    changed.x = x.clone()
    changed.x[42:] += 100  # later statistics do not scale the earlier
    assert torch.equal(bitcoin.BitcoinTask(changed).data.x[:42], task.data.x[:42])


# Results


def finished(suite, row, mean, **more):
    return {
        "row": row.name,
        "params": 12345,
        "mean": mean,
        "standard_error": 0.0049,
        "plan": whole(suite, row).plan,
    } | more


def test_the_table_shows_finished_rows_and_marks_the_best(tmp_path):
    suite = toy_suite(ToyTask(), toy_row("a"), toy_row("b"), toy_row("none"), toy_row("c d, e"))
    assert results.tables(tmp_path, [suite]) == ""
    for row, mean in zip((suite.rows[0], suite.rows[1], suite.rows[3]), (0.5, 0.8112, 0.8108), strict=True):
        whole(suite, row).store(tmp_path, finished(suite, row, mean))
    assert results.tables(tmp_path, [suite]).splitlines() == [
        "`toy`: About.", "",
        "| row | parameters | accuracy, % |", "| --- | --- | --- |",
        "| a | 12,345 | 50.0 +- 0.5 |", "| b | 12,345 | **81.1** +- 0.5 |", "| c d, e | 12,345 | **81.1** +- 0.5 |",
    ]  # fmt: skip
    assert (tmp_path / "toy" / "c-d-e.json").exists()


def test_the_best_of_two_digits_is_not_the_last_in_the_alphabet(tmp_path):
    suite = toy_suite(ToyTask(), toy_row("a"), toy_row("b"))
    for row, mean in zip(suite.rows, (0.095, 0.1), strict=True):
        whole(suite, row).store(tmp_path, finished(suite, row, mean))
    assert "| a | 12,345 | 9.5 +-" in results.table(tmp_path, suite)
    assert "| b | 12,345 | **10.0** +-" in results.table(tmp_path, suite)


def test_a_timed_suite_shows_the_ratio(tmp_path):
    suite = toy_suite(ToyTask())
    step = {"ours": 0.1, "peer": 0.4, "ratio": 0.25, "peer_name": "Peer"}
    whole(suite, suite.rows[0]).store(tmp_path, finished(suite, suite.rows[0], 0.5, step=step))
    assert results.table(tmp_path, suite).endswith("| a | 12,345 | **50.0** +- 0.5 | 100 ms | 0.25x Peer |")


def test_text_goes_between_its_marks_and_nowhere_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n", encoding="utf-8")
    write("a", "new", readme)
    assert readme.read_text(encoding="utf-8") == "before\n<!-- a -->\nnew\n<!-- end of a -->\nafter\n"
    assert shown("a", readme) == "new"


def test_raw_files_are_copied_whole_and_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.graphs.data.CACHE", tmp_path / "cache")
    raw = tmp_path / "data" / "set" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.txt").write_text("a", encoding="utf-8")
    for _ in range(2):
        folder = place(tmp_path / "data", "set")
        assert (folder / "raw" / "a.txt").read_text(encoding="utf-8") == "a"
    assert folder == tmp_path / "cache" / "set" and [path.name for path in (tmp_path / "cache").iterdir()] == ["set"]
    assert place(tmp_path / "data", "absent") == tmp_path / "cache" / "absent"


def test_a_seed_decides_everything():
    task = small_cora()
    suite = replace(cora.WITH_EDGES, budget=500, limits=Limits(3, 3))
    trials = Trials(whole(suite, suite.rows[2]), task)
    built = []
    trials.model = lambda trial: built.append(Trials.model(trials, trial)) or built[-1]
    for seed in (0, 0, 1):
        trials.fit(0, seed)
    first, second, other = (torch.cat([weight.flatten() for weight in model.parameters()]) for model in built)
    assert torch.equal(first, second) and not torch.equal(first, other)
