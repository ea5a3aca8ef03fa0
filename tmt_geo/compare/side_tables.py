"""What else a suite tells beside its table: exit depths, passkeys, and the loss on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tmt_geo.compare.language import LanguageSuite
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.mean import Mean, say_seeds
from tmt_geo.compare.results import load_results

# Published mean exit depths, of 12 layers; our kinds that come nearest to theirs.
CLAIMED_DEPTH = {"punctuation": 2.1, "determiner": 3.4, "other word": 5.8, "rare word": 11.7}
CLAIMED_LAYERS = 12


def depth_table(suite: LanguageSuite, folder: Path) -> str:
    """How deep tokens go by kinds, in Markdown, for each row that tells; nothing where none does.

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
                told = [line for profile in profiles for line in profile[key] if line["kind"] == kind]
                depth = Mean.of([line["depth"] for line in told])
                claim = CLAIMED_DEPTH.get(kind)
                said = ["-", "-"] if claim is None else [f"{claim:.1f}", f"{claim / CLAIMED_LAYERS:.2f}"]
                depths = [depth.say(2), f"{depth.value / layers:.2f}"]
                lines.append([prefix + kind, f"{told[0]['tokens']:,}", *depths, *said])
        text = markdown_table(["kind of token", "tokens", computed, "share", claimed, "share"], lines)
        parts.append(f"Exit depth in `{row.name}`, test split, {say_seeds(len(profiles))}:\n\n{text}")
    return "\n\n".join(parts)


def passkey_table(suite: LanguageSuite, folder: Path) -> str:
    """The share of digits found again by the distance, in Markdown; nothing where no row was asked."""
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


def curve_table(suite: LanguageSuite, folder: Path) -> str:
    """The validation loss on the way, in Markdown, for each row that was looked at; nothing where none was.

    In nats a token, mean over the seeds that were looked at, on the first blocks of the validation split, each read by
    itself: what a copy head remembers beyond a block has no part in it. At most ten of the looks, the last among them.
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
    """Mean loss at each step that all runs with any looks have looked at."""
    looks = [{row["step"]: row["eval_loss"] for row in run.get("history", ()) if "eval_loss" in row} for run in runs]
    looks = [look for look in looks if look]
    steps = sorted(set.intersection(*map(set, looks))) if looks else []
    return {step: Mean.of([look[step] for look in looks]) for step in steps}
