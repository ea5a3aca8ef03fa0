"""Rows of generation with a cache, one sequence, greedy."""

from __future__ import annotations

from functools import partial

import torch
from transformers import DynamicCache, StaticCache

from benchmarks.speed.language_model import SIZE, llama, tmt
from benchmarks.speed.row import SpeedRow, as_many, growth
from tmt_geo import set_compile

NEW = 64  # tokens of a call


def decode(model, forward, cache, context: int, forget, device: torch.device):
    """Read a prompt once; each call then writes `NEW` tokens and forgets them."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(model.config.vocab_size, (1, context), generator=generator).to(device)
    options = {"use_cache": True, "logits_to_keep": 1}
    with torch.no_grad():
        out = model(prompt, past_key_values=cache, **options)
    cache, first = out.past_key_values, out.logits.argmax(-1)

    @torch.no_grad()
    def run():
        token = first
        for _ in range(NEW):
            token = forward(token, past_key_values=cache, **options).logits.argmax(-1)
        forget(cache)

    return run


def crop(cache) -> None:
    """Forget the new tokens of a cache that grows."""
    cache.crop(-NEW)


def rewind(context: int, cache: StaticCache) -> None:
    """Forget the new tokens of a cache of fixed size."""
    for layer in cache.layers:
        layer.cumulative_length.fill_(context)


def tmt_decode(context: int, size: dict, device: torch.device, how: str = "compiled"):
    """Our model, no exits."""
    model = tmt(context + NEW, size).to(device).eval()
    run = decode(model, model, None, context, crop, device)

    def compiled():
        set_compile("always")
        try:
            run()
        finally:
            set_compile("auto")

    return compiled if how == "compiled" else run


def llama_dynamic(context: int, size: dict, device: torch.device):
    """The peer as generate() runs it."""
    model = llama(context + NEW, size).to(device).eval()
    return decode(model, model, DynamicCache(config=model.config), context, crop, device)


def llama_static(context: int, size: dict, device: torch.device):
    """The peer with a cache of fixed size, its step compiled."""
    model = llama(context + NEW, size).to(device).eval()
    cache = StaticCache(config=model.config, max_cache_len=context + NEW)
    return decode(model, torch.compile(model), cache, context, partial(rewind, context), device)


def decoding_row(context: int, size: dict = SIZE) -> SpeedRow:
    """Tokens a second beside Llama's."""
    peers = {"Llama, dynamic cache": llama_dynamic, "Llama, static cache, compiled": llama_static}
    return SpeedRow(
        "decoding, one sequence, tokens/s", f"{context:,} of context", as_many(1, 1.3),
        ours=partial(tmt_decode, context, size),
        peers={name: partial(build, context, size) for name, build in peers.items()},
        unit="tokens/s", per=NEW, repeats=7,
    )  # fmt: skip


def growth_row(short: int, long: int, size: dict = SIZE) -> SpeedRow:
    """What a longer past costs a token."""
    return SpeedRow(
        "decoding, time a token", f"{long:,} of context", growth(2, 1.3), ours=partial(tmt_decode, long, size),
        peers={f"itself at {short:,}": partial(tmt_decode, short, size)}, per=NEW, repeats=7,
    )  # fmt: skip


ROWS = [decoding_row(2048), growth_row(1024, 16384)]
