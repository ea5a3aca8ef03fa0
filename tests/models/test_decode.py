"""The compiled step of cached decoding is the plain one."""

from collections import Counter

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tmt_geo.models import TMTModel
from tmt_geo.models.tmt import cache_tmt
from tmt_geo.nn import decode
from tmt_geo.ops import compiled, copying
from tmt_geo.testing.tiny import lively, tiny_config


@pytest.fixture
def always():
    compiled.set_compile("always")
    yield
    assert not compiled._state["broken"]
    compiled.set_compile("auto")


def counted(monkeypatch, backend):
    """How often graphs of so many layers are entered; compiled by this backend."""
    calls = Counter()
    compile_it = torch.compile(decode.run.plain, backend=backend)

    def count(layers, *args):
        calls[len(layers)] += 1
        return compile_it(layers, *args)

    monkeypatch.setattr(decode.run, "function", count)
    return calls


@pytest.mark.parametrize(
    ("rows", "options", "graphs", "backend"),
    [
        (1, {"num_key_value_heads": 2}, {1}, "aot_eager"),
        (2, {"num_key_value_heads": 1, "qk_norm": True}, {1}, "aot_eager"),
        (1, {"exit": False, "content_mesh": True, "memory_anchors": 3}, {3}, "inductor"),
        (3, {"exit": False, "decay": None, "rotary": False, "memory_anchors": 0, "window": 0}, {3}, "aot_eager"),
    ],
    ids=["one with exits", "two with normalised queries and keys", "one without exits", "three without anything"],
)
def test_compiled_decoding_is_the_full_forward(always, monkeypatch, options, rows, graphs, backend):
    calls = counted(monkeypatch, backend)
    model = lively(TMTModel(tiny_config(**options))).double().eval()
    S = 14
    ids = torch.randint(model.config.vocab_size, (rows, S))
    mask = torch.ones(rows, S, dtype=torch.long)
    mask[1:, :3] = 0
    with torch.no_grad():
        full = model(ids, attention_mask=mask)
        out = model(ids[:, :6], attention_mask=mask[:, :6], use_cache=True)
        for t in range(6, S):
            out = model(ids[:, t : t + 1], attention_mask=mask[:, : t + 1], past_key_values=out.past_key_values)
            torch.testing.assert_close(out.logits[:, -1], full.logits[:, t], rtol=0, atol=1e-8)
            assert torch.equal(out.exit_masks[..., -1], full.exit_masks[..., t])
    assert set(calls) == graphs
    if graphs == {3}:
        assert calls[3] == S - 6  # all layers at once


def test_one_graph_serves_a_cache_that_grows(always, monkeypatch):
    """A step reads every slot, so that the cache grows little at a time; no growth may wait for the compiler."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(cache_tmt, "ROOM", 2)
    monkeypatch.setattr(decode.run, "function", torch.compile(decode._run, backend=counter))
    model = lively(TMTModel(tiny_config(exit=False))).eval()
    ids = torch.randint(model.config.vocab_size, (1, 40))
    sizes = set()
    with torch.no_grad():
        cache = model(ids[:, :30], use_cache=True).past_key_values
        for t in range(30, 40):
            model(ids[:, t : t + 1], past_key_values=cache)
            sizes.add(cache.capacity)
    assert len(sizes) > 2
    assert max(sizes) < 50
    assert counter.frame_count == 1


def test_one_graph_returns_what_the_layers_do(always, monkeypatch):
    """Every output of a step, against the plain code."""
    calls = counted(monkeypatch, "aot_eager")
    model = lively(TMTModel(tiny_config(exit=False, memory_anchors=3))).double().eval()
    ids = torch.randint(model.config.vocab_size, (2, 9))
    outputs = {}
    for mode in ("never", "always"):
        compiled.set_compile(mode)
        with torch.no_grad():
            cache = model(ids[:, :8], use_cache=True).past_key_values
            outputs[mode] = model(ids[:, 8:], past_key_values=cache, output_hidden_states=True), cache
    (plain, plain_cache), (graph, graph_cache) = outputs["never"], outputs["always"]
    assert calls == {3: 1}
    torch.testing.assert_close(graph.hidden_states, plain.hidden_states, rtol=0, atol=1e-12)
    for name in ("logits", "num_edges", "active_share", "exit_masks"):
        torch.testing.assert_close(getattr(graph, name), getattr(plain, name), rtol=0, atol=1e-12)
    for one, other in zip(graph_cache.layers, plain_cache.layers, strict=True):
        for name in ("keys", "values", "index"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-12)


def test_slots_that_must_not_be_written_in_place_are_not_compiled(always, monkeypatch):
    calls = counted(monkeypatch, "aot_eager")
    model = lively(TMTModel(tiny_config(exit=False))).double().eval()
    ids = torch.randint(model.config.vocab_size, (1, 9))
    with torch.inference_mode():
        cache = model(ids[:, :7], use_cache=True).past_key_values
        model(ids[:, 7:8], past_key_values=cache)  # the cache grows to have room for the next
    with torch.no_grad():
        last = model(ids[:, 8:], past_key_values=cache).logits[:, -1]
        torch.testing.assert_close(last, model(ids, use_cache=False).logits[:, -1], rtol=0, atol=1e-8)
    assert calls == {3: 1}


@pytest.mark.parametrize(("rows", "backend"), [(1, "inductor"), (3, "aot_eager")])
def test_compiled_votes_are_those_of_the_full_forward(always, monkeypatch, rows, backend):
    """No growth of the text waits for the compiler."""
    counted(monkeypatch, "eager")
    counter = CompileCounterWithBackend(backend)
    monkeypatch.setattr(cache_tmt, "ROOM", 2)
    monkeypatch.setattr(copying.latest_votes, "function", torch.compile(copying._latest_votes, backend=counter))
    model = lively(TMTModel(tiny_config(copy_k=5))).double().eval()
    ids = torch.randint(9, (rows, 30))  # few tokens: many are equally near
    with torch.no_grad():
        full = model(ids, use_cache=False)
        out, compiled_at_first = model(ids[:, :12], use_cache=True), 0
        for t in range(12, 30):
            out = model(ids[:, t : t + 1], past_key_values=out.past_key_values)
            torch.testing.assert_close(out.logits[:, -1], full.logits[:, t], rtol=0, atol=1e-8)
            assert (out.num_votes == 5 * rows).all()
            compiled_at_first = counter.frame_count if t == 12 else compiled_at_first
    assert counter.frame_count == compiled_at_first > 0
