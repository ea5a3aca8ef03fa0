import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import train_model
from tmt_geo.train.trace_callback import TraceCallback

PASSAGE = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture
def tmt():
    """Everything in play that a trace could disturb: dropout, gates with running thresholds, anchors."""

    def make(**change):
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 12, "graph_k": 2}
        rest = {"window": 2, "memory_anchors": 3, "dropout": 0.3, "exit_budget": 0.6}
        return TMTModel(TMTConfig(**sizes | rest | change))

    return make


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step
        return control


def assert_same_graphs(graphs, expected):
    assert len(graphs) == len(expected)
    for graph, other in zip(graphs, expected, strict=True):
        assert set(graph.keys()) == set(other.keys())
        assert all(torch.equal(graph[key], other[key]) for key in graph.keys())  # noqa: SIM118 (a Data iterates pairs)


def test_the_run_is_what_it_would_be_without(tmt, blocks, options, tmp_path):
    runs = []
    for name, traces in (("without", []), ("with", [TraceCallback(PASSAGE, count=7)])):
        model, change = tmt(), {"log_every": 1, "eval_every": 2}
        config = options(out=tmp_path / name, **change)
        history = train_model(model, None, blocks(20), blocks(3), config, callbacks=traces).history
        logged = [{key: value for key, value in row.items() if "second" not in key and "time" not in key}
                for row in history]  # fmt: skip
        runs.append((logged, model.state_dict(), torch.get_rng_state()))
    (expected, weights, random), (logged, watched, after) = runs
    assert len(traces[0].graphs) == 7
    assert logged == expected and torch.equal(after, random)
    for name, tensor in weights.items():
        assert torch.equal(watched[name], tensor), name


def test_the_graphs_are_those_of_the_model_at_each_step(tmt, blocks, options):
    trace, model = TraceCallback(PASSAGE, count=4), tmt()
    seen = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            seen[state.global_step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    ids = torch.tensor([PASSAGE])
    fresh = model.eval().layer_graphs(ids)
    train_model(model, None, blocks(20), None, options(steps=6), callbacks=[trace, Keep()])
    assert list(trace.graphs) == [0, 2, 4, 6]
    assert_same_graphs(trace.graphs[0], fresh)
    for step in (2, 4, 6):
        model.load_state_dict(seen[step])
        assert_same_graphs(trace.graphs[step], model.eval().layer_graphs(ids))
    assert not torch.equal(trace.graphs[2][-1].x, trace.graphs[4][-1].x)


@pytest.mark.parametrize(("steps", "count", "wanted"), [(1, 5, [0, 1]), (3, 5, [0, 1, 2, 3]), (9, 2, [0, 9])])
def test_steps_are_spread_and_never_more_than_there_are(tmt, blocks, options, steps, count, wanted):
    trace = TraceCallback(PASSAGE, count)
    train_model(tmt(), None, blocks(4), None, options(steps=steps, grad_accum=2, batch_size=2), callbacks=[trace])
    assert list(trace.graphs) == wanted


def test_a_resumed_run_is_traced_from_where_it_goes_on(tmt, blocks, options, tmp_path):
    change = {"steps": 8, "save_every": 4}
    whole, rest = TraceCallback(PASSAGE), TraceCallback(PASSAGE, count=3)
    train_model(tmt(), None, blocks(11), None, options(out=tmp_path / "whole", **change), callbacks=[whole])
    train_model(tmt(), None, blocks(11), None, options(**change), callbacks=[StopAt(4)])
    train_model(tmt(), None, blocks(11), None, options(resume=True, **change), callbacks=[rest])
    assert list(whole.graphs) == [0, 2, 4, 6, 8] and list(rest.graphs) == [4, 6, 8]
    for step, graphs in rest.graphs.items():
        assert_same_graphs(graphs, whole.graphs[step])


def test_a_run_that_is_stopped_ends_where_it_was_stopped(tmt, blocks, options):
    trace = TraceCallback(PASSAGE, count=3)
    train_model(tmt(), None, blocks(4), None, options(steps=8), callbacks=[trace, StopAt(5)])
    assert list(trace.graphs) == [0, 4, 5]


def test_tracing_is_no_time_of_training(tmt, blocks, options, monkeypatch):
    model, clock = tmt(), [0.0]
    original = model.layer_graphs

    def tick():
        clock[0] += 1
        return clock[0]

    def slow(ids):
        clock[0] += 1e6
        return original(ids)

    monkeypatch.setattr(model, "layer_graphs", slow)
    monkeypatch.setattr("tmt_geo.train.trainer.time.perf_counter", tick)
    config = options(steps=6, batch_size=4)
    result = train_model(model, None, blocks(20), None, config, callbacks=[TraceCallback(PASSAGE, count=7)])
    monkeypatch.undo()
    assert clock[0] > 7e6
    assert result.tokens_per_second > 6 * 4 * 12 / 1e6


def test_the_mode_of_the_model_is_put_back(tmt):
    model, trace = tmt(), TraceCallback(PASSAGE)
    for training in (True, False):
        model.train(training)
        trace.on_train_end(None, TrainerState(is_world_process_zero=True), None, model=model)
        assert all(module.training == training for module in model.modules())
    with pytest.raises(ValueError, match="'mesh'"):
        dense = tmt(mesh=False).train()
        trace.on_train_end(None, TrainerState(is_world_process_zero=True), None, model=dense)
    assert dense.training


def test_other_processes_do_not_trace(tmt):
    trace = TraceCallback(PASSAGE)
    trace.on_train_end(None, TrainerState(is_world_process_zero=False), None, model=tmt())
    assert trace.graphs == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([],), r"^'input_ids' needs .*\(got none\)$"), ((PASSAGE, 1), r"^'count' must be at least 2.*\(got 1\)$")],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TraceCallback(*arguments)
