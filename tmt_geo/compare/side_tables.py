"""Further tables of a suite: exit depths, passkeys, caches, and validation loss during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tmt_geo.compare.caches import CONTROLS
from tmt_geo.compare.language import LanguageSuite
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.mean import Mean, say_seeds
from tmt_geo.compare.results import load_results

# Published mean exit depths, of 12 layers; our kinds that come nearest to theirs.
CLAIMED_DEPTH = {"punctuation": 2.1, "determiner": 3.4, "other word": 5.8, "rare word": 11.7}
CLAIMED_LAYERS = 12


def depth_table(suite: LanguageSuite, folder: Path) -> str:
    """Exit depth by kind of token, in Markdown, for each row that is profiled; nothing where none is.

    The depths are means over tokens and seeds. The claim ("common nouns" stands beside all other words here) is of 12
    layers.
    """
    results = load_results(folder, suite)
    parts = []
    for row in (row for row in suite.rows if row.profiled and row.name in results):
        profiles = [run["exit_profile"] for run in results[row.name]]
        layers = len(profiles[0]["all"]["frozen"])
        computed, claimed = f"layers computed, of {layers}", f"claimed, of {CLAIMED_LAYERS}"
        lines = []
        for prefix, key in (("", "by_word"), ("seen in training: ", "by_count")):
            for kind in [kind["kind"] for kind in profiles[0][key]]:
                same = [line for profile in profiles for line in profile[key] if line["kind"] == kind]
                depth = Mean.of([line["depth"] for line in same])
                claim = CLAIMED_DEPTH.get(kind)
                claims = ["-", "-"] if claim is None else [f"{claim:.1f}", f"{claim / CLAIMED_LAYERS:.2f}"]
                depths = [depth.say(2), f"{depth.value / layers:.2f}"]
                lines.append([prefix + kind, f"{same[0]['tokens']:,}", *depths, *claims])
        text = markdown_table(["kind of token", "tokens", computed, "share", claimed, "share"], lines)
        parts.append(f"Exit depth in `{row.name}`, test split, {say_seeds(len(profiles))}:\n\n{text}")
    return "\n\n".join(parts)


def passkey_table(suite: LanguageSuite, folder: Path) -> str:
    """The share of digits found again by the distance, in Markdown; nothing where no row has it."""
    results = load_results(folder, suite)
    rows = [row for row in suite.rows if row.passkey and row.name in results]
    if not rows:
        return ""
    distances = sorted({distance for row in rows for distance in row.passkey})
    head = ["digits of a passkey found, by its distance in tokens", *(f"{distance:,}" for distance in distances)]
    lines = []
    for row in rows:
        found = [run["passkey"] for run in results[row.name]]
        shares = (Mean.of([run[str(distance)] for run in found]).say(2) for distance in distances)
        lines.append([row.name, *shares])
    return markdown_table(head, lines)


def cache_table(suite: LanguageSuite, folder: Path) -> str:
    """Perplexity of each row with caches beside it, in Markdown; nothing where no row has them.

    Over the seeds that were measured so. What is tuned is tuned on the validation split.
    """
    split = suite.splits[-1]
    lines = []
    for name, runs in load_results(folder, suite).items():
        caches = [run["caches"] for run in runs if "caches" in run]
        if caches:
            ppls = (Mean.of([cache[control][f"{split}_word_ppl"] for cache in caches]).say(1) for control in CONTROLS)
            lines.append([name, *ppls, str(len(caches))])
    if not lines:
        return ""
    return markdown_table([f"{split} ppl of", *CONTROLS, "seeds"], lines)


def curve_table(suite: LanguageSuite, folder: Path) -> str:
    """Validation loss during training, in Markdown, for each row that has it; nothing where none has.

    In nats a token, mean over the seeds that have it, on the first blocks of the validation split. Each block is read
    by itself, so that what a copy head remembers beyond a block has no part in it. At most ten steps are shown, the
    last among them.
    """
    results = load_results(folder, suite)
    curves = {name: _curve(runs) for name, runs in results.items()}
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return ""
    steps = sorted(set().union(*curves.values()))
    shown = steps[:: -max(1, -(-len(steps) // 10))][::-1]
    head = ["validation loss after so many steps", *(f"{step:,}" for step in shown)]
    lines = []
    for name, curve in curves.items():
        losses = (curve[step].say(3) if step in curve else "-" for step in shown)
        lines.append([name, *losses])
    return markdown_table(head, lines)


def _curve(runs: Sequence[dict[str, Any]]) -> dict[int, Mean]:
    """Mean loss at each step that is there in all runs with any validation losses."""
    losses = [{row["step"]: row["eval_loss"] for row in run.get("history", ()) if "eval_loss" in row} for run in runs]
    losses = [by_step for by_step in losses if by_step]
    steps = sorted(set.intersection(*map(set, losses))) if losses else []
    return {step: Mean.of([by_step[step] for by_step in losses]) for step in steps}
