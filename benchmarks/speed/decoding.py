"""Rows of generation with a cache, one sequence."""

from __future__ import annotations

from functools import partial

import torch
from transformers import DynamicCache, StaticCache

from benchmarks.speed.language_model import PLAIN, SHIPPED, SIZE, peer, settled, tmt, tokens
from benchmarks.speed.row import SpeedRow, as_many, growth
from tmt_geo import set_compile

NEW = 64  # tokens of a call


def decode(model, forward, cache, context: int, forget, device: torch.device):
    """Read a prompt once; each call then predicts `NEW` times, and forgets.

    Random tokens follow, not those predicted: an untrained model repeats one for ever, and with it one depth.
    """
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(model.config.vocab_size, (1, context), generator=generator).to(device)
    follow = torch.randint(model.config.vocab_size, (NEW, 1, 1), generator=generator).to(device)
    options = {"use_cache": True, "logits_to_keep": 1}
    with torch.no_grad():
        cache = model(prompt, past_key_values=cache, **options).past_key_values

    @torch.no_grad()
    def run():
        outs = [forward(token, past_key_values=cache, **options) for token in follow]
        said = [out.logits.argmax(-1) for out in outs]
        forget(cache)
        return outs, said

    return run


def crop(cache) -> None:
    """Forget the new tokens of a cache that grows."""
    cache.crop(-NEW)


def rewind(context: int, cache: StaticCache) -> None:
    """Forget the new tokens of a cache of fixed size."""
    for layer in cache.layers:
        layer.cumulative_length.fill_(context)


def ours(context: int, size: dict, options: dict, device: torch.device):
    """Our model with these options, its gates settled."""
    return settled(tmt(context + NEW, size, **options), tokens(256, size, device, at_least=512))


def tmt_decode(context: int, size: dict, options: dict, device: torch.device):
    """Our model, compiled."""
    model = ours(context, size, options, device)
    run = decode(model, model, None, context, crop, device)

    def compiled():
        set_compile("always")
        try:
            return run()
        finally:
            set_compile("auto")

    return compiled


def depth(context: int, size: dict, options: dict, device: torch.device) -> dict:
    """The active share of the new tokens."""
    model = ours(context, size, options, device)
    outs, _ = decode(model, model, None, context, crop, device)()
    return {"active share": float(torch.stack([out.active_share for out in outs]).mean())}


def llama_dynamic(context: int, size: dict, options: dict, device: torch.device):
    """The peer as generate() runs it."""
    model = peer("llama", context + NEW, size, **options).to(device).eval()
    return decode(model, model, DynamicCache(config=model.config), context, crop, device)


def llama_static(context: int, size: dict, options: dict, device: torch.device):
    """The peer with a cache of fixed size, its step compiled."""
    model = peer("llama", context + NEW, size, **options).to(device).eval()
    cache = StaticCache(config=model.config, max_cache_len=context + NEW)
    return decode(model, torch.compile(model), cache, context, partial(rewind, context), device)


def decoding_row(name: str, options: dict, context: int, size: dict = SIZE) -> SpeedRow:
    """Tokens a second beside Llama's."""
    peers = {"Llama, dynamic cache": llama_dynamic, "Llama, static cache, compiled": llama_static}
    return SpeedRow(
        f"decoding{name}, one sequence, tokens/s", f"{context:,} of context", as_many(1, 2),
        ours=partial(tmt_decode, context, size, options),
        peers={name: partial(build, context, size, options) for name, build in peers.items()},
        notes=partial(depth, context, size, options), model=size | options, unit="tokens/s", per=NEW, repeats=21,
    )  # fmt: skip


def growth_row(name: str, options: dict, short: int, long: int, size: dict = SIZE) -> SpeedRow:
    """What a longer past costs a token."""
    return SpeedRow(
        f"decoding{name}, time a token", f"{long:,} of context", growth(1.3, 1.1),
        ours=partial(tmt_decode, long, size, options),
        peers={f"itself at {short:,}": partial(tmt_decode, short, size, options)},
        notes=partial(depth, long, size, options), model=size | options, per=NEW, repeats=21,
    )  # fmt: skip


ROWS = [
    row
    for name, options in (("", PLAIN), (" as it ships", SHIPPED))
    for row in (decoding_row(name, options, 2048), growth_row(name, options, 1024, 16384))
]
