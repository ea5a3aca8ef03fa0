"""The tables of language models, from the committed results of ``tmt-geo compare``.

    tmt-geo compare ablation --data wikitext-2 --threads 1 --out benchmarks/results/quality
    python -m benchmarks.language --write

The first command runs what a suite has no result of yet (:mod:`tmt_geo.compare.measure` says how), the second writes
the tables of all suites into their pages. `wikitext-2` is a folder with train.txt, valid.txt and test.txt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.readme import write
from tmt_geo.compare import load_results
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.report import active_share, figure, section
from tmt_geo.compare.suites import OPTIONS, SIZED, SUITES
from tmt_geo.viz import save_figure

RESULTS = Path(__file__).parent / "results" / "quality"
PICTURES = ("ablation",)  # suites whose figure the documentation shows


def language_tables(folder: Path = RESULTS) -> str:
    """The sections of all suites, at all sizes, that have results; the options have a table of their own."""
    found = [section(suite, folder) for suite in SIZED if suite is not OPTIONS]
    return "\n\n".join(text for text in found if text)


def options_table(folder: Path = RESULTS) -> str:
    """What one option changes, on the validation split, in Markdown."""
    lines = []
    for name, runs in load_results(folder, OPTIONS).items():
        run = runs[0]  # of the one seed
        perplexities = [f"{run['valid_token_ppl']:.1f}", f"{run['valid_word_ppl']:.0f}"]
        operations = [f"{run[key] / 1e6:.2f}" for key in ("flops_per_token", "flops_per_token_head")]
        lines.append([name, f"{run['params']:,}", *perplexities, f"{active_share(runs):.2f}", *operations])
    head = ["row", "parameters", "token ppl", "word ppl", "active share", "MFLOP a token, layers", "head"]
    return markdown_table(head, lines)


def main(argv: list[str] | None = None) -> None:
    """Print the tables, or write them with the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="put tables and pictures into their pages")
    arguments = parser.parse_args(argv)
    tables = {"language": language_tables(), "options": options_table()}
    print("\n\n".join(tables.values()))
    if arguments.write:
        for name, text in tables.items():
            write(name, text)
        for name in PICTURES:
            save_figure(figure(SUITES[name], RESULTS), RESULTS / f"{name}.png", width=1000, scale=1)


if __name__ == "__main__":
    main()
