"""Results as a table in Markdown, as a figure, and the claim of superadditivity on our own rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmt_geo.compare.language import FAR, LanguageSuite
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.mean import Mean, mean_of, say_seeds
from tmt_geo.compare.results import load_results
from tmt_geo.compare.side_tables import cache_table, curve_table, depth_table, passkey_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SINGLE = ("mesh", "decay", "exit")
TOGETHER = "mesh + decay + exit"


def table(suite: LanguageSuite, folder: Path) -> str:
    """All rows of a suite in Markdown, those without results as "not run"; nothing where no row has any.

    Perplexities are word-level; ``against`` is relative to the suite's baseline, over the seeds that both have.
    """
    results = load_results(folder, suite)
    if not results:
        return ""
    claimed = any(row.claimed for row in suite.rows)
    columns = _columns(suite)
    head = ["row", *(name for name, _ in columns)] + ["claimed: ppl", "claimed: compute"] * claimed
    lines = []
    base = results.get(suite.baseline, [])
    for row in suite.rows:
        runs = results.get(row.name)
        cells = ["not run", *["-"] * (len(columns) - 1)] if runs is None else [say(runs, base) for _, say in columns]
        if claimed:
            cells += [f"{row.claimed[0]:.1f}", f"{row.claimed[1]:.2f}"] if row.claimed else ["-", "-"]
        lines.append([row.name, *cells])
    return markdown_table(head, lines)


Runs = Sequence[dict[str, Any]]


def _columns(suite: LanguageSuite) -> list[tuple[str, Callable[[Runs, Runs], str]]]:
    """Name of each column, and its cell from a row's runs and those of the baseline."""
    against = f"against {suite.baseline}"
    last = suite.splits[-1]
    far = (f"bits a name of over {FAR:,} tokens ago", lambda runs, base: mean_of(runs, "far_bits").say(3))
    return [
        ("parameters", lambda runs, base: f"{runs[0]['params']:,}"),
        ("of which not embeddings", lambda runs, base: f"{runs[0]['params_without_embeddings']:,}"),
        *(
            (f"{split} ppl", lambda runs, base, split=split: mean_of(runs, f"{split}_word_ppl").say(1))
            for split in suite.splits
        ),
        (against, lambda runs, base: _ratio(runs, base, f"{last}_word_ppl")),
        (f"{last} bits per byte", lambda runs, base: mean_of(runs, f"{last}_bits_per_byte").say(3)),
        *([far] if suite.names else []),
        ("MFLOP a token, layers", lambda runs, base: f"{mean_of(runs, 'flops_per_token').value / 1e6:.2f}"),
        (against, lambda runs, base: _ratio(runs, base, "flops_per_token")),
        ("head", lambda runs, base: f"{mean_of(runs, 'flops_per_token_head').value / 1e6:.2f}"),
        ("active share", lambda runs, base: f"{active_share(runs):.2f}"),
        ("seeds", lambda runs, base: str(len(runs))),
    ]


def active_share(runs: Runs) -> float:
    """Share of the tokens that a layer computes, mean over layers and runs."""
    shares = [sum(run["active_share"]) / len(run["active_share"]) for run in runs]
    return sum(shares) / len(shares)


def ratios(runs: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], key: str) -> dict[int, float]:
    """A figure relative to that of the baseline, for each seed that both have."""
    of = {run["seed"]: run[key] for run in base}
    return {run["seed"]: run[key] / of[run["seed"]] for run in runs if run["seed"] in of}


def _ratio(runs: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]], key: str) -> str:
    found = list(ratios(runs, base, key).values())
    return f"{Mean.of(found).value:.2f}" if found else "-"


def superadditivity(suite: LanguageSuite, folder: Path) -> str:
    """What mesh, decay and exits gain alone, added up, and what they gain together, in test perplexity.

    Published: 4.3 + 1.8 + 2.5 = 8.6 alone and 12.7 together. Over the seeds that all five rows have; nothing where
    there are none.
    """
    results = load_results(folder, suite)
    names = ("vanilla", *SINGLE, TOGETHER)
    if any(name not in results for name in names):
        return ""
    by_seed = {name: {run["seed"]: run["test_word_ppl"] for run in results[name]} for name in names}
    seeds = sorted(set.intersection(*(set(found) for found in by_seed.values())))
    if not seeds:
        return ""
    gain = {
        name: Mean.of([by_seed["vanilla"][seed] - by_seed[name][seed] for seed in seeds])
        for name in (*SINGLE, TOGETHER)
    }
    alone = Mean.of([sum(by_seed["vanilla"][seed] - by_seed[name][seed] for name in SINGLE) for seed in seeds])
    parts = ", ".join(f"{name} {gain[name].say(1)}" for name in SINGLE)
    more = "more" if gain[TOGETHER].value > alone.value else "less"
    return (
        f"Test perplexity gained on vanilla, {say_seeds(len(seeds))}: {parts}, which add up to {alone.say(1)}; all "
        f"three together {gain[TOGETHER].say(1)}, {more} than the sum. (Claimed: 4.3, 1.8 and 2.5, which add up to "
        f"8.6; together 12.7.)"
    )


def section(suite: LanguageSuite, folder: Path) -> str:
    """What a README says of a suite: its line, table, superadditivity, and the side tables it has."""
    text = table(suite, folder)
    if not text:
        return ""
    parts = [f"`{suite.name}`: {suite.about}", text, superadditivity(suite, folder)]
    parts += [side_table(suite, folder) for side_table in (curve_table, cache_table, depth_table, passkey_table)]
    return "\n\n".join(part for part in parts if part)


def figure(suite: LanguageSuite, folder: Path) -> Figure:
    """Perplexity against measured operations a token in the layers, one marker a row.

    The nearer to the lower left, the better and the cheaper. Bars are standard errors over seeds.

    Raises:
        ValueError: If no row has a result.
    """
    from tmt_geo.viz.labelled_points import PointGroup, labelled_points

    results = load_results(folder, suite)
    if not results:
        raise ValueError(f"'folder' must hold results of the suite {suite.name!r} (got {folder})")
    groups = []
    for name, ours in (("this package", True), ("transformers", False)):
        rows = [row.name for row in suite.rows if row.name in results and (row.family == "tmt") == ours]
        ppl = [mean_of(results[row], f"{suite.splits[-1]}_word_ppl") for row in rows]
        compute = [mean_of(results[row], "flops_per_token").value / 1e6 for row in rows]
        if rows:
            errors = [mean.error or 0.0 for mean in ppl]
            groups.append(PointGroup(name, rows, compute, [mean.value for mean in ppl], errors))
    return labelled_points(
        groups,
        title=f"{suite.name}: perplexity against compute",
        note="bars: standard errors over seeds; the nearer to the lower left, the better and the cheaper",
        x_title="MFLOP a token in the layers, as counted on the run",
        y_title=f"word perplexity, {suite.splits[-1]} split",
    )
