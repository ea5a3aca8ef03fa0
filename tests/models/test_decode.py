"""The compiled step of cached decoding is the plain one."""

import pytest
import torch

from tmt_geo.models import TMTModel
from tmt_geo.nn import decode
from tmt_geo.ops import compiled
from tmt_geo.testing.tiny import lively, tiny_config


@pytest.fixture
def always():
    compiled.set_compile("always")
    yield
    assert not compiled._state["broken"]
    compiled.set_compile("auto")


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (1, {"num_key_value_heads": 2}),
        (3, {"exit": False, "decay": None, "rotary": False, "memory_anchors": 0, "window": 0}),
        (2, {"num_key_value_heads": 1, "qk_norm": True}),
    ],
    ids=["one with exits", "three without anything", "two with normalised queries and keys"],
)
def test_compiled_decoding_is_the_full_forward(always, monkeypatch, options, rows):
    calls = []
    run = decode.attend.function
    monkeypatch.setattr(decode.attend, "function", lambda *args: calls.append(1) or run(*args))
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
    assert calls
