"""The harness itself, on tiny sizes."""

import json
import pickle
from functools import partial

import pytest
import torch

from benchmarks import measure as timing
from benchmarks.speed import attention, conv, decoding, edges, language_model, measure, results, search, shipped, small
from benchmarks.speed.__main__ import ROWS, main
from benchmarks.speed.quality import RESULTS, quality
from benchmarks.speed.row import SpeedRow, as_many, below, faster, growth, share
from tmt_geo import MeshAttention, TMTConfig
from tmt_geo.models.tmt.presets_tmt import COPYING

CPU = torch.device("cpu")
TINY = {"vocab_size": 97, "d_model": 16, "n_layers": 3, "n_heads": 2}
KEYS = {
    "row", "at", "ours", "peer", "ratio", "unit", "peer_name", "peers", "failed", "bar", "aim", "device", "threads",
    "clock", "torch", "notes",
}  # fmt: skip


def spin(calls, device):
    """A contestant whose time is so many matrix products."""
    x = torch.ones(64, 64)

    def run():
        for _ in range(calls):
            x @ x

    return run


def broken(device):
    raise ImportError("no such package")


@pytest.fixture(autouse=True)
def short_samples(monkeypatch):
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.0)


def tiny_row(**options):
    peers = {"slow": partial(spin, 400), "fast": partial(spin, 100)}
    kept = {"at": "64", "goal": faster(2, 3), "ours": partial(spin, 40), "peers": peers} | options
    return SpeedRow("products", repeats=5, warmups=1, **kept)


def test_contestants_take_turns_in_both_orders():
    seen = []
    runs = {name: partial(seen.append, name) for name in "abc"}
    medians = timing.alternate(runs, {"a": 1, "b": 2, "c": 1}, 3, lambda: None)
    assert "".join(seen) == "abbc" + "cbba" + "abbc"
    assert list(medians) == ["a", "b", "c"]


def test_the_median_is_that_of_a_call(monkeypatch):
    clock = iter([0.0, 4.0, 10.0, 30.0, 50.0, 52.0])  # two calls in 4, 20 and 2 seconds
    monkeypatch.setattr(timing.time, "perf_counter", clock.__next__)
    assert timing.alternate({"a": lambda: None}, {"a": 2}, 3, lambda: None) == {"a": 2.0}


def test_the_processor_does_not_count_what_it_waits():
    wait = partial(timing.time.sleep, 0.05)
    assert timing.seconds_of_call(wait, 1, lambda: None, "processor") < 0.02
    assert timing.seconds_of_call(wait, 1, lambda: None) >= 0.05
    row = measure.measure(tiny_row(), CPU, 1, "processor")
    assert row["clock"] == "processor" and row["peer_name"] == "fast"


def test_a_row_timed_beside_other_work_says_so(tmp_path):
    row = tiny_row()
    results.store(tmp_path / "cpu.json", done(row, 4.0, 6.0) | {"clock": "processor"}, [row])
    text = results.tables(tmp_path, [row])
    assert "| fast * |" in text and text.endswith(results.BESIDE)


def test_short_calls_are_repeated_to_a_sample(monkeypatch):
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 0.02)
    assert [timing.calls_of_a_sample(seconds) for seconds in (60, 0.02, 0.006, 0)] == [1, 1, 4, 1000]


def test_a_row_is_measured_against_its_best_peer():
    row = measure.measure(tiny_row(), CPU, 1)
    assert row.keys() == KEYS
    assert row["peer_name"] == "fast" and row["peer"] == row["peers"]["fast"] < row["peers"]["slow"]
    assert row["ratio"] == row["ours"] / row["peer"] < 1
    assert (row["bar"], row["aim"], row["unit"], row["device"]) == ("2x as fast", "3x as fast", "ms", "cpu")
    json.dumps(row)


def test_more_tokens_a_second_are_better():
    row = measure.measure(tiny_row(unit="tokens/s", per=7), CPU, 1)
    assert row["peer_name"] == "fast" and row["peers"]["fast"] > row["peers"]["slow"]
    assert row["ratio"] == row["ours"] / row["peer"] > 1


def test_a_peer_that_cannot_run_is_named_and_the_others_count():
    row = measure.measure(tiny_row(peers={"gone": broken, "slow": partial(spin, 400)}), CPU, 1)
    assert row["peer_name"] == "slow" and row["failed"] == {"gone": "ImportError: no such package"}
    row = measure.measure(tiny_row(peers={"gone": broken}), CPU, 1)
    assert row["peer"] is row["ratio"] is row["peer_name"] is None
    with pytest.raises(ImportError):
        measure.measure(tiny_row(ours=broken), CPU, 1)


def test_memory_is_that_of_a_fresh_process_over_its_inputs():
    step = partial(conv.conv_step, MeshAttention, 1000, 100_000, 8, 4, 16, False)
    large = torch.ones(2**28)  # 1 GiB in this process, which ru_maxrss of a fresh one would know of
    row = measure.measure(SpeedRow("memory", "", below(1, 1), step, unit="MiB"), CPU, 1)
    one_edge_tensor = 100_000 * 4 * 16 * 4 / 2**20
    assert large.sum() > 0 and one_edge_tensor < row["ours"] < 20 * one_edge_tensor
    assert row["unit"] == "MiB" and row["ratio"] is None


@pytest.mark.parametrize(
    ("goal", "ours", "peer", "words", "met"),
    [
        (faster(8, 15), 2.0, 20.0, "10x as fast", True),
        (faster(8, 15), 20.0, 2.0, "0.1x as fast", False),
        (share(0.4, 0.25, "time"), 3.0, 6.0, "0.5 of its time", False),
        (share(0.4, 0.25, "time"), 2.0, 6.0, "0.333 of its time", True),
        (growth(6, 4.5), 10.0, 2.0, "5x the time", True),
        (as_many(1, 1.3), 90.0, 100.0, "0.9x as many", False),
        (below(1024, 256), 2048.0, None, "2,048 MiB", False),
        (below(1024, 256), 200.0, None, "200 MiB", True),
    ],
)
def test_goals_count_and_say_what_they_mean(goal, ours, peer, words, met):
    figure = goal.figure(ours, peer)
    assert (goal.say(figure), goal.met(figure)) == (words, met)


def done(row, ours, peer):
    ratio = peer and ours / peer
    return {
        "row": row.name, "at": row.at, "ours": ours, "peer": peer, "ratio": ratio, "unit": row.unit,
        "peer_name": "fast", "threads": 2, "torch": "2.13.0", "notes": {},
    }  # fmt: skip


def test_a_row_with_a_note_below_its_least_misses_its_bar(tmp_path):
    rows = [tiny_row(at=at, notes=lambda device: {"recall": 0.9}, least={"recall": least}) for at, least in
            (("1", 0.9), ("2", 0.95))]  # fmt: skip
    for row in rows:
        assert measure.measure(row, CPU, 1)["notes"] == {"recall": 0.9}
        results.store(tmp_path / "cpu.json", done(row, 1.0, 4.0) | {"notes": {"recall": 0.9}}, rows)
    lines = results.tables(tmp_path, rows).splitlines()[4:]
    assert [line.split(" | ")[5] for line in lines] == [
        "4x as fast, recall 0.9", "4x as fast, recall 0.9 (**bar missed**)",
    ]  # fmt: skip


def test_results_are_merged_in_the_order_of_the_benchmark(tmp_path):
    rows = [SpeedRow(name, "1", faster(2, 3), spin) for name in "abc"]
    path = tmp_path / "deep" / "cpu.json"
    for row, ours in ((rows[2], 1.0), (rows[0], 2.0), (rows[2], 3.0)):
        results.store(path, done(row, ours, 6.0), rows)
    assert [(row["row"], row["ours"]) for row in results.load(path)] == [("a", 2.0), ("c", 3.0)]
    assert [file.name for file in path.parent.iterdir()] == ["cpu.json"]


def test_the_table_hides_neither_what_is_missed_nor_what_is_missing(tmp_path):
    rows = [
        tiny_row(),
        SpeedRow("memory", "big", below(10, 5), spin, unit="MiB"),
        SpeedRow("none", "1", faster(2, 3), spin),
    ]
    results.store(tmp_path / "cpu.json", done(rows[0], 4.0, 6.0), rows)
    results.store(tmp_path / "cpu.json", done(rows[1], 7.0, None) | {"peer_name": None}, rows)
    text = results.tables(tmp_path, rows)
    assert text.startswith("`cpu`, 2 threads, torch 2.13.0:\n\n| row |")
    assert text.splitlines()[4:] == [
        "| products | 64 | fast | 4 ms | 6 ms | 1.5x as fast (**bar missed**) | 2x as fast | 3x as fast | - |",
        "| memory | big | - | 7 MiB | - | 7 MiB | 10 MiB | 5 MiB | - |",
        "| none | 1 | - | - | - | not measured | 2x as fast | 3x as fast | - |",
    ]


def test_the_command_keeps_finished_rows(tmp_path, capsys):
    counts = {"a": 0, "b": 0}

    def build(name, device):
        counts[name] += 1
        return lambda: None

    goal = faster(2, 3)
    rows = [SpeedRow("bad", "1", goal, broken)] + [SpeedRow(name, "1", goal, partial(build, name)) for name in counts]
    options = ["--out", str(tmp_path), "--device", "cpu", "--threads", "1"]
    assert main([*options, "--rows", "b,"], rows) == 0
    assert counts == {"a": 0, "b": 1}
    assert main(options, rows) == 1  # the bad row is reported, the rest measured, b not again
    assert counts == {"a": 1, "b": 1}
    captured = capsys.readouterr()
    assert "bad, 1: ImportError: no such package" in captured.err and "| bad | 1 |" in captured.out
    main([*options, "--again", "--rows", "a,"], rows)
    assert counts == {"a": 2, "b": 1}
    assert [row["row"] for row in results.load(tmp_path / "cpu.json")] == ["a", "b"]


def test_rows_are_distinct_and_can_be_sent_to_a_fresh_process():
    assert len({(row.name, row.at) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        pickle.dumps((row.ours, row.peers))
        assert row.goal.of == "ours" or row.peers, row.name


def name_of(argument):
    """A name that is the same in every process."""
    return getattr(argument, "__name__", argument)


@pytest.mark.parametrize(
    "build",
    [
        partial(search.exact, 40),
        partial(search.plain, 40, 3),
        partial(attention.mesh, 40, True),
        partial(attention.mesh, 40, False),
        partial(attention.dense, 40),
        *(partial(language_model.ours, what, 32, TINY, shipped.SHIPPED, 64) for what in language_model.RUNS),
        *(
            partial(language_model.theirs, what, family, False, 32, TINY, {"exit": True}, 64)
            for what in language_model.RUNS
            for family in ("llama", "mamba2")
        ),
        partial(language_model.half_or_whole, 64, TINY, True),
        partial(decoding.llama_dynamic, 70, TINY, {}),
        *(partial(edges.edge_step, form, "full", 5) for form in ("factored", *edges.MOST)),
        partial(edges.edge_step, "factored", "mesh", 30),
        *(partial(conv.conv_step, cls, 30, 90, 6, 2, 4, False) for cls in (MeshAttention, *conv.PEERS.values())),
        *(partial(small.cloud_step, make) for make in (small.OursDynamic, small.edge_ours)),
    ],
    ids=lambda build: f"{build.func.__module__.split('.')[-1]}.{build.func.__name__}-{name_of(build.args[0])}",
)
def test_contestants_run_again_and_again(build):
    run = build(CPU)
    run()
    run()


def test_mesh_and_dense_attention_are_given_the_same_tensors():
    mesh, dense = (attention.inputs(shape, CPU) for shape in ((5, 8, 64), (1, 8, 5, 64)))
    assert all(a.numel() == b.numel() and a.requires_grad == b.requires_grad for a, b in zip(mesh, dense, strict=True))


def test_the_peer_has_as_many_parameters():
    for size, length in ((TINY, 32), (language_model.SIZE, 256)):
        ours = language_model.tmt(length, size, **shipped.SHIPPED)
        for family in ("llama", "mamba2"):
            theirs = language_model.peer(family, length, size, **shipped.SHIPPED)
            assert theirs.num_parameters() == pytest.approx(ours.num_parameters(), rel=0.01)
        assert language_model.llama(length, size).config._attn_implementation == "sdpa"


def test_what_ships_has_exits_and_votes():
    device_free = shipped.ROWS[0].model | {"d_model": 32, "n_heads": 2, "vocab_size": 97}
    config = language_model.tmt(32, device_free).config
    assert config.gate_rule == "budget" and config.content_mesh and config.copy_k == 32
    default = TMTConfig()
    changed = {name for name, value in config.to_dict().items() if value != default.to_dict()[name]}
    sizes = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"}
    assert changed <= sizes | {*COPYING, "dropout", "architectures"}


def test_gates_hold_their_budget_when_they_have_settled():
    model = language_model.shipped(256, TINY, shipped.SHIPPED, CPU)
    ids = language_model.tokens(256, TINY, CPU, at_least=512)
    assert language_model.active_share(model, ids) == pytest.approx(0.5, abs=0.02)
    assert {layer.gate.momentum for layer in model.backbone.encoder.layers if layer.gate} == {0.8}


def test_a_row_names_the_committed_result_of_its_model():
    assert quality(None) == "-"
    assert quality({"d_model": 24, "n_heads": 2}) == "none"
    said = quality({**shipped.COMPARED, **shipped.COMPARED_OPTIONS, "copy_sentinel": False})
    runs = [json.loads(path.read_text()) for path in RESULTS.glob("ablation/full-mesh-by-content-[0-9]*.json")]
    mean = sum(run["test_word_ppl"] for run in runs) / len(runs)
    assert said.startswith(f"ablation, full, mesh by content: {mean:.1f} +- ")
    assert quality({**shipped.COMPARED, **shipped.COMPARED_OPTIONS, "window": 15}) == "none"


def test_half_of_the_work_is_half_of_the_work():
    model, full, ids = language_model.twins(64, TINY, CPU)
    assert language_model.active_share(model, ids) == pytest.approx(0.5, abs=0.02)
    assert language_model.active_share(full, ids) == 1
    for name, value in full.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_decoded_token_goes_as_deep_as_the_budget_lets_it():
    assert decoding.depth(70, TINY, language_model.PLAIN, CPU) == {"active share": 1}
    assert 0.3 < decoding.depth(70, TINY, language_model.SHIPPED, CPU)["active share"] < 0.7


@pytest.mark.parametrize("static", [False, True])
def test_every_call_of_a_decoder_starts_from_the_same_prompt(static):
    model = language_model.llama(134, TINY).eval()
    kept = []

    def forward(*inputs, **options):
        out = model(*inputs, **options)
        kept.append(out.logits)
        return out

    cache = decoding.StaticCache(config=model.config, max_cache_len=134) if static else None
    run = decoding.decode(model, forward, cache, 70, partial(decoding.rewind, 70) if static else decoding.crop, CPU)
    run()
    run()
    first, second = torch.cat(kept[:64]), torch.cat(kept[64:])
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert not torch.equal(first[0], first[1])


def test_the_sub_quadratic_row_searches_trained_states_and_reports_its_recall(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 600, 8, generator=generator)
    monkeypatch.setattr(search.recall, "states", lambda *_: states)
    found, _ = search.inverted_file(600, CPU)()
    assert found.shape == (600, 8)
    assert 0.5 < search.long_recall(600, CPU)["recall@8"] <= 1
    torch.testing.assert_close(search.trained(500, CPU), torch.nn.functional.normalize(states[2, :500], dim=1))
