"""Rows of the language model as it ships: exits, a copy head and a mesh by content, beside its peers."""

from __future__ import annotations

from functools import partial

from benchmarks.speed.language_model import (
    PLAIN,
    SHIPPED,
    SIZE,
    half_or_whole,
    ours,
    share_reached,
    shares_of_twins,
    theirs,
)
from benchmarks.speed.row import Goal, SpeedRow, as_many, share
from tmt_geo.models.tmt.presets_tmt import PRESETS

SLOW = {"repeats": 1, "warmups": 0}  # of minutes: the first call of each counts
DEMO = {"vocab_size": 2048, "d_model": 128, "n_layers": 4, "n_heads": 4}
# The full model of the comparisons, its mesh by content: one whose quality is known.
COMPARED = {"vocab_size": 8192, "d_model": 128, "n_layers": 4, "n_heads": 4}
COMPARED_OPTIONS = {
    "exit": True, "copy_k": 32, "window": 16, "index_dim": 32, "exit_budget": 0.32, "memory_anchors": 16,
}  # fmt: skip
PRESET_VOCABULARY = 50257
PRESET_TOKENS = 1024

# Peers and whether they are compiled.
EAGER = {"Llama, SDPA, eager": ("llama", False)}
LLAMA = EAGER | {"Llama, SDPA, compiled": ("llama", True)}
MAMBA = {"Mamba2, without its kernels": ("mamba2", False)}


def lm_row(
    name: str,
    what: str,
    length: int,
    goal: Goal,
    peers: dict[str, tuple[str, bool]],
    size: dict = SIZE,
    model: dict = SHIPPED,
    at_least: int = 2048,
    **options,
) -> SpeedRow:
    """Ours and its peers do one thing at this length: one of :data:`benchmarks.speed.language_model.RUNS`."""
    given = (length, size, model, at_least)
    return SpeedRow(
        name + (", peak memory" if options.get("unit") == "MiB" else ""), f"{length:,} tokens", goal,
        ours=partial(ours, what, *given),
        peers={said: partial(theirs, what, *kind, *given) for said, kind in peers.items()},
        notes=partial(share_reached, *given), model=size | model, **options,
    )  # fmt: skip


def preset_row(what: str, preset: str, peers: dict[str, tuple[str, bool]], **options) -> SpeedRow:
    """A preset, one sequence."""
    known = PRESETS[preset]
    size = {"vocab_size": PRESET_VOCABULARY} | {name: known[name] for name in SIZE if name in known}
    model = {name: value for name, value in known.items() if name not in size} | {"exit": True}
    goal = share(*BARS[what][PRESET_TOKENS], "time")
    return lm_row(f"preset {preset}, {what}", what, PRESET_TOKENS, goal, peers, size, model, PRESET_TOKENS, **options)


def exit_row(length: int, size: dict = SIZE) -> SpeedRow:
    """A forward with half of the work, beside the whole."""
    return SpeedRow(
        "forward with an active share of 1/2, outside the head", f"{length:,} tokens", share(0.62, 0.55, "time"),
        ours=partial(half_or_whole, length, size, True),
        peers={"the same model, all active": partial(half_or_whole, length, size, False)},
        notes=partial(shares_of_twins, length, size),
    )  # fmt: skip


BARS = {
    "training step": {256: (0.65, 0.5), 1024: (0.60, 0.45), 4096: (0.42, 0.3), 16384: (0.2, 0.1)},
    "forward": {256: (0.75, 0.5), 1024: (0.65, 0.45), 4096: (0.45, 0.3), 16384: (0.2, 0.1)},
}
PEERS = {256: LLAMA, 1024: LLAMA, 4096: LLAMA, 16384: EAGER}
HOW = {256: {"repeats": 7}, 1024: {"repeats": 7}, 4096: {"repeats": 3, "warmups": 1}, 16384: SLOW}

ROWS = [
    *(
        lm_row(f"LM as it ships, {what}", what, length, share(*bar, "time"), PEERS[length], **HOW[length])
        for what, bars in BARS.items()
        for length, bar in bars.items()
    ),
    lm_row("LM as it ships, training step", "training step", 16384, share(0.5, 0.25, "memory"), EAGER, unit="MiB"),
    *(
        lm_row(f"LM as it ships, {what}, beside Mamba2", what, 256, share(1.0, 0.5, "time"), MAMBA, repeats=1,
               warmups=1)
        for what in BARS
    ),
    lm_row("full model of the comparisons, training step", "training step", 256, share(0.65, 0.5, "time"), LLAMA,
           COMPARED, COMPARED_OPTIONS, repeats=7),
    lm_row("LM of the demo, training, tokens/s", "training step", 256, as_many(1.0, 1.3), LLAMA, DEMO,
           {"exit": True}, unit="tokens/s", per=2048, repeats=7),
    *(preset_row(what, preset, LLAMA, repeats=3, warmups=1)
      for preset in ("small", "medium") for what in BARS),  # a step of the next takes minutes here
    # Without exits and copy head, and a forward with half of the work beside the whole.
    lm_row("LM training step, no exits", "training step", 256, share(1.2, 1.0, "time"), LLAMA, model=PLAIN, repeats=7),
    lm_row("LM training step, no exits", "training step", 4096, share(0.4, 0.25, "time"), LLAMA, model=PLAIN,
           repeats=5, warmups=2),
    lm_row("LM training step, no exits", "training step", 16384, share(0.15, 0.08, "time"), LLAMA, model=PLAIN,
           repeats=3, warmups=1),
    lm_row("LM training step, no exits", "training step", 16384, share(0.5, 0.25, "memory"), LLAMA, model=PLAIN,
           unit="MiB"),
    exit_row(256),
    exit_row(4096),
]  # fmt: skip
