"""The suites. Published figures stand in ``claimed`` alone: perplexity, and compute relative to the vanilla row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tmt_geo.compare.depth_suite import DEPTH
from tmt_geo.compare.language import LanguageRow, LanguageSuite
from tmt_geo.compare.recipe_suite import RECIPE
from tmt_geo.compare.shared_options import (
    BASE,
    COPY,
    COPY_RATE,
    FULL,
    FULL_RATE,
    MUON,
    PLAIN,
    RECIPES,
    SENTINEL,
    SIZE,
    TINY,
    TWO_LAYERS,
    UNGATED,
)  # fmt: skip
from tmt_geo.compare.streams_suite import CODE, STREAMS


def _full(name: str = "full", recipe: dict | None = None, profiled: bool = False, **change: Any) -> LanguageRow:
    """The full model at its rate, or with something else about it."""
    return LanguageRow(name, options={**FULL, **change}, recipe={**FULL_RATE, **(recipe or {})}, profiled=profiled)


def _mechanisms(mesh: bool = False, decay: bool = False, exit: bool = False) -> dict:
    """A plain transformer with some of the three mechanisms."""
    return {**PLAIN, "mesh": mesh, "decay": "log" if decay else None, "exit": exit}


ABLATION = LanguageSuite(
    name="ablation",
    about="What each mechanism does: mesh x decay x exits in a plain transformer, then the full model with one part "
    "taken away.",
    rows=(
        LanguageRow("vanilla", options=_mechanisms(), claimed=(42.1, 1.00)),
        _full(profiled=True),
        LanguageRow("mesh", options=_mechanisms(mesh=True), claimed=(37.8, 0.62)),
        LanguageRow("decay", options=_mechanisms(decay=True), claimed=(40.3, 0.98)),
        LanguageRow("exit", options=_mechanisms(exit=True), claimed=(39.6, 0.51)),
        LanguageRow("mesh + decay", options=_mechanisms(mesh=True, decay=True), claimed=(34.2, 0.61)),
        LanguageRow("mesh + exit", options=_mechanisms(mesh=True, exit=True), claimed=(35.1, 0.50)),
        LanguageRow("decay + exit", options=_mechanisms(decay=True, exit=True), claimed=(37.0, 0.50)),
        LanguageRow("mesh + decay + exit", options=_mechanisms(True, True, True), claimed=(29.4, 0.48)),
        _full("full, mesh by content", content_mesh=True),
        _full("full, mesh by content, sentinel", content_mesh=True, **SENTINEL),
        _full("full without copy head", copy_k=0),
        _full("full without memory", copy_memory=0),
        _full("full without mesh", mesh=False),
        _full("full without exits", exit=False),
        _full("full without decay", decay=None),
        _full("full without gated heads", gated_heads=False),
        _full("full without dual stream", dual_stream=False),
        _full("full without gated streams", gated_streams=False),
        _full("full without anchors", memory_anchors=0),
        _full("full without temporal edges", window=0),
        _full("full without shift", shift=False),
    ),
    recipe=TINY,
    full=SIZE,
)

PEERS = LanguageSuite(
    name="peers",
    about="Models of the transformers library beside the full model, and vanilla with the same copy head.",
    rows=(
        LanguageRow("llama", family="llama"),
        _full(),
        LanguageRow("llama with copy head", family="llama", options=COPY, recipe=COPY_RATE),
        LanguageRow("depth-adaptive without mesh", options=_mechanisms(exit=True)),
        LanguageRow("gpt2", family="gpt2"),
        LanguageRow("mistral, window of 16", family="mistral", options={"keys": 16}),
        LanguageRow("mixtral", family="mixtral"),
        LanguageRow("mamba2", family="mamba2"),
        LanguageRow("mamba", family="mamba"),
        LanguageRow("rwkv", family="rwkv"),
        LanguageRow("deepseek, 16 keys", family="deepseek", options={"keys": 16}),
        LanguageRow("bigbird, original_full", family="bigbird"),
    ),
    recipe=TINY,
    full=SIZE,
    baseline="llama",
    seeds=(42,),
)

RATES = (2e-3, 4e-3, 8e-3)

TUNING = LanguageSuite(
    name="tuning",
    about="Vanilla's recipe, chosen on the validation split before anything is compared: the learning rate, and "
    "whether more layers help. The same rates for the full model.",
    rows=(
        *(
            LanguageRow(f"llama, {layers} layers, rate {rate:g}", family="llama", options={"params": params},
                recipe={"n_layers": layers, "learning_rate": rate}, matched=False)
            for layers, params in ((4, 2_046_354), (2, 1_548_000))
            for rate in RATES
        ),
        *(
            LanguageRow(f"llama with copy head, rate {rate:g}", family="llama", options=COPY,
                        recipe={"learning_rate": rate})
            for rate in RATES
        ),
        *(_full(f"full, rate {rate:g}", {"learning_rate": rate}) for rate in RATES),
    ),
    recipe=TINY,
    full=SIZE,
    baseline="llama, 4 layers, rate 0.004",
    seeds=(42,),
    tested=False,
)  # fmt: skip

# Twice through the text. Without dropout, which the two packages do not have at the same places.
LONG = replace(TINY, steps=2400, eval_every=200, save_every=300)

PUSH = LanguageSuite(
    name="push",
    about="Five times as long, twice through the text, with the validation loss on the way: the full model, also with "
    "more of its layers, vanilla, the library's Llama with and without the same copy head, its Qwen3-Next for gates "
    "on the heads, and a vanilla cut down in depth.",
    rows=(
        LanguageRow("vanilla", options=_mechanisms()),
        _full(),
        _full("full, deeper, without anchors", exit_budget=0.52, exit_after=2, memory_anchors=0),
        LanguageRow("two layers, mesh by content", options=TWO_LAYERS, recipe=FULL_RATE, cached=True),
        _full("two thin layers, mesh by content", {"n_layers": 2}, **UNGATED),
        LanguageRow("llama", family="llama", cached=True),
        *(
            LanguageRow(f"llama with copy head{said}", family="llama", options={**COPY, **layers}, recipe=COPY_RATE,
                cached=True)
            for said, layers in (("", {}), (", two layers", {"n_layers": 2}), (", one layer", {"n_layers": 1}))
        ),
        LanguageRow("two layers, mesh by content, sentinel", options={**TWO_LAYERS, **SENTINEL}, recipe=FULL_RATE,
            cached=True),
        LanguageRow("llama with copy head, sentinel", family="llama", options={**COPY, **SENTINEL}, recipe=COPY_RATE,
            cached=True),
        LanguageRow("two layers, mesh by content, sentinel, Muon", options={**TWO_LAYERS, **SENTINEL}, recipe=MUON,
            cached=True),
        LanguageRow("llama with copy head, sentinel, Muon", family="llama", options={**COPY, **SENTINEL}, recipe=MUON,
            cached=True),
        LanguageRow("llama, Muon", family="llama", recipe=MUON, cached=True),
        LanguageRow("llama with copy head and gated heads", family="qwen3_next", options=COPY, recipe=COPY_RATE,
            cached=True),
        LanguageRow("vanilla of two layers", options={**_mechanisms(), "intermediate_size": 512},
            recipe={"n_layers": 2}, matched=False),
    ),
    recipe=LONG,
    full=SIZE,
)  # fmt: skip

THIRD = {**FULL, "exit_budget": 0.34}  # three layers cannot do with less

SCALE = LanguageSuite(
    name="scale",
    about="Perplexity against size and against tokens.",
    rows=tuple(
        LanguageRow(f"{name}, {width} channels, {steps} steps", family=family, options=options,
            recipe={"d_model": width, "n_layers": layers, "steps": steps, **rate})
        for width, layers, steps in ((64, 3, 500), (192, 6, 500), (128, 4, 250), (128, 4, 1000), (128, 4, 2000))
        for name, family, options, rate in (("llama", "llama", {}, {}), ("full", "tmt", THIRD, FULL_RATE))
    ),
    recipe=TINY,
    full=SIZE,
    baseline="llama, 64 channels, 500 steps",
    seeds=(42,),
)  # fmt: skip

DISTANCES = (50, 100, 200, 500, 1000, 2000, 4000)

LENGTH = LanguageSuite(
    name="length",
    about="Perplexity and cost by context, at equal tokens a step, and passkeys by distance.",
    rows=tuple(
        LanguageRow(f"{name}, {length:,} tokens", family=family, options=options, passkey=DISTANCES,
            recipe={"block_size": length, "batch_size": 4096 // length, "steps": 250, "stride": length, **rate})
        for length in (256, 1024, 4096)
        for name, family, options, rate in (
            ("llama", "llama", {}, {}), ("full", "tmt", FULL, FULL_RATE),
            ("llama with copy head", "llama", COPY, COPY_RATE),
        )
    ),
    recipe=TINY,
    full=SIZE,
    baseline="llama, 256 tokens",
    seeds=(42,),
)  # fmt: skip

# What the options were when the rows below were measured, and the same without exits.
EARLIER = {
    "window": 8, "gated_heads": False, "gated_streams": False, "memory_anchors": 16, "content_mesh": False,
}  # fmt: skip
NO_EXITS = {**EARLIER, "exit": False}

OPTIONS = LanguageSuite(
    name="options",
    about="One option changed at a time, in a short run at half the learning rate and without a copy head. Rows have "
    "the parameters that their options give them.",
    rows=tuple(
        LanguageRow(name, family=family, options=options, matched=False)
        for name, family, options in (
            ("llama", "llama", {"params": 1_518_227}),
            ("default", "tmt", EARLIER),
            ("exit off", "tmt", NO_EXITS),
            ("exit budget 0.75", "tmt", {**EARLIER, "exit_budget": 0.75}),
            ("exit momentum 0.2", "tmt", {**EARLIER, "exit_momentum": 0.2}),
            ("mesh off", "tmt", {**NO_EXITS, "mesh": False, "decay": None}),
            ("window off", "tmt", {**NO_EXITS, "window": 0}),
            ("shift off", "tmt", {**NO_EXITS, "shift": False}),
            ("decay off", "tmt", {**NO_EXITS, "decay": None}),
            ("decay rate 8", "tmt", {**NO_EXITS, "decay_rate": 8.0}),
            ("index of 64 channels", "tmt", {**NO_EXITS, "index_dim": 64}),
            ("mesh for 2 layers", "tmt", {**NO_EXITS, "rebuild_every": 2}),
            ("anchors off", "tmt", {**NO_EXITS, "memory_anchors": 0}),
            ("single stream", "tmt", {**NO_EXITS, "dual_stream": False}),
            ("published, no exits", "tmt",
             {**NO_EXITS, "window": 0, "shift": False, "decay": "published", "decay_rate": 0.1}),
        )
    ),
    recipe=replace(
        TINY, vocab_size=4096, steps=300, learning_rate=2e-3, stride=128, shuffle=True, valid_tokens=40_960
    ),
    baseline="exit off",
    seeds=(0,),
    tested=False,
)  # fmt: skip

SUITES = {
    suite.name: suite
    for suite in (ABLATION, PEERS, TUNING, PUSH, SCALE, LENGTH, STREAMS, CODE, OPTIONS, DEPTH, RECIPE)
}
AT_BASE = (ABLATION, PEERS)


def _base(suite: LanguageSuite) -> LanguageSuite:
    """A suite at the published size, whose rate is for all rows: those of the rows were chosen at the tiny size."""
    rows = tuple(replace(row, recipe={}) for row in suite.rows)
    return replace(suite, name=f"{suite.name}-base", recipe=BASE, rows=rows)


SIZED = (*SUITES.values(), *map(_base, AT_BASE))


def at_size(suite: LanguageSuite, size: str) -> LanguageSuite:
    """A suite as it stands (``"tiny"``), or with the base recipe and a name of its own.

    Raises:
        ValueError: If there is no such size, or the suite has sizes of its own.
    """
    if size not in RECIPES:
        raise ValueError(f"'size' must be one of {', '.join(RECIPES)} (got {size!r})")
    if size == "tiny":
        return suite
    if suite not in AT_BASE:
        names = " and ".join(suite.name for suite in AT_BASE)
        raise ValueError(f"'size' is a choice for {names} alone (got {size!r} for {suite.name!r})")
    return _base(suite)
