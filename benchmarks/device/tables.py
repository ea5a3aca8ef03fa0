"""The results of all steps as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tmt_geo.compare.markdown import markdown_table


def tables(ends: Sequence[dict], results: Mapping[str, list[dict]]) -> str:
    """How each step ended, and what it found.

    Args:
        ends (sequence of dict): Of each step its name, its end and its seconds.
        results (mapping): The rows of each step, by its name; none where it has stored nothing.
    """
    done = [[end["step"], end["end"], f"{end['seconds']:.0f}"] for end in ends]
    return "\n\n".join([markdown_table(["step", "end", "seconds"], done), found(results)])


def found(results: Mapping[str, list[dict]]) -> str:
    """The tables of the steps that have stored something, by their names."""
    parts = []
    for name, rows in results.items():
        parts += [f"**{name}**", *_tests(rows), *_contests(rows), *_models(rows), *_profiles(rows)]
    return "\n\n".join(parts)


def _tests(rows: list[dict]) -> list[str]:
    counts = [row for row in rows if "tests" in row]
    if not counts:
        return []
    passed = counts[0]["tests"] - counts[0]["failed"] - counts[0]["skipped"]
    lines = [f"{passed} passed, {counts[0]['failed']} failed, {counts[0]['skipped']} skipped"]
    failed = [[f"`{row['test']}`", " ".join(row["says"].split())[:160]] for row in rows if "test" in row]
    return lines + ([markdown_table(["failed", "says"], failed)] if failed else [])


def _contests(rows: list[dict]) -> list[str]:
    lines = []
    for row in rows:
        for name, milliseconds in row.get("ms", {}).items():
            least = min(row["ms"].values())
            share, memory = f"{milliseconds / least:.2f}", f"{row['MiB'][name]:,.0f}"
            lines.append([row["row"], row["at"], name, f"{milliseconds:,.2f}", share, memory])
        for name, reason in row.get("failed", {}).items() if isinstance(row.get("failed"), dict) else []:
            lines.append([row["row"], row["at"], name, "failed", "-", " ".join(reason.split())[:120]])
        if row.get("plain code ran"):
            lines.append([row["row"], row["at"], "our compiled operators", "fell back to plain code", "-", "-"])
        if "share" in row:
            lines.append([row["row"], row["at"], "-", "-", f"{row['share']:.3f}", "-"])
    return [markdown_table(["row", "at", "who", "ms", "of the least", "MiB of a call"], lines)] if lines else []


def _models(rows: list[dict]) -> list[str]:
    lines = [
        [
            row["row"], f"{row['parameters']:,}", f"{row['tokens/s']:,.0f}", f"{row['steps']:,}",
            f"{row['loss after equal time']:.3f}",
            f"{row['loss after equal steps']:.3f} ({row['equal steps']})" if "equal steps" in row else "-",
        ]
        for row in rows if "tokens/s" in row
    ]  # fmt: skip
    head = ["model", "parameters", "tokens/s", "steps", "loss after equal time", "after equal steps"]
    return [markdown_table(head, lines)] if lines else []


def _profiles(rows: list[dict]) -> list[str]:
    parts = []
    for row in rows:
        if "wall ms" in row:
            busy = f"{row['device ms']:,.1f} of {row['wall ms']:,.1f} ms on the device, {row['calls']:,} operators"
            kinds = [[kind, f"`{e['name']}`", f"{e['ms']:,.2f}", f"{e['calls']:,}"]
                     for kind in ("by device", "by host") for e in row[kind][:8]]  # fmt: skip
            parts += [
                f"{row['row']}, {row['at']}: {busy}",
                markdown_table(["order", "operator", "ms", "calls"], kinds),
            ]
    return parts
