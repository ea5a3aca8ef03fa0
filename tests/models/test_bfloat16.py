"""bfloat16 rounds weights and states, never positions: from 257 on it knows the even ones alone."""

import pytest
import torch

from tmt_geo.models import TMTConfig, TMTModel

LENGTH = 400
SHARP = {"decay_rate": 400.0}  # most of what a head attends to is a token or two away: one place more or less shows
KINDS = {
    "default": {},
    "dense, rotary": {"mesh": False, "decay": None},
    "dense, log decay": {"mesh": False, "decay": "log", "rotary": False, **SHARP},
    "window, log decay": {"graph_k": 2, "window": 40, "decay": "log", **SHARP},
    "window, published decay": {"graph_k": 2, "window": 40, "decay": "published", "rotary": False, **SHARP},
}


def make(kind):
    """A model of sharp attention, its weights rounded to bfloat16; without exits, which a rounding may decide."""
    sizes = {"vocab_size": 61, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}
    model = TMTModel(TMTConfig(**sizes, exit=False, dropout=0.0, **KINDS[kind])).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.mul_(8 if "query" in name or "key" in name else 3)
    return model.bfloat16()


def error(low, high):
    """Of each position, in standard deviations of the logits."""
    return (low.double() - high.double()).square().mean((0, 2)).sqrt() / high.double().std()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_as_near_to_float32_behind_position_256_as_before(kind):
    model, ids = make(kind), torch.randint(61, (2, LENGTH))
    low = model(ids, use_cache=False).logits
    assert low.dtype == torch.bfloat16
    off = error(low, model.float()(ids, use_cache=False).logits)
    assert off[:256].mean() < 0.01
    assert off[257:].mean() < 1.3 * off[:256].mean() and off[300:].mean() < 1.3 * off[:256].mean()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_so_are_those_of_a_cached_step(kind):
    model, ids = make(kind), torch.randint(61, (2, 320))
    out = model(ids[:, :300], use_cache=True)
    low = [out.logits[:, -1:]]
    for place in range(300, 320):
        out = model(ids[:, place : place + 1], past_key_values=out.past_key_values, use_cache=True)
        low.append(out.logits)
    off = error(torch.cat(low, dim=1), model.float()(ids, use_cache=False).logits[:, 299:])
    assert off.mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_so_are_those_under_autocast(kind):
    model, ids = make(kind).float(), torch.randint(61, (2, LENGTH))
    with torch.autocast("cpu", torch.bfloat16):
        low = model(ids, use_cache=False).logits
    off = error(low, model(ids, use_cache=False).logits)
    assert off[257:].mean() < 1.3 * off[:256].mean() < 0.03
