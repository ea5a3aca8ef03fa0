"""``tmt-geo compare``: models side by side, one resumable run after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tmt_geo.cli.compare_problems import PROBLEMS, run_problems
from tmt_geo.cli.options import DataConfig, Threads, use_threads
from tmt_geo.cli.screen import say
from tmt_geo.extras import check_extra


def compare(
    suite: Annotated[
        str,
        typer.Argument(
            help="ablation, peers, tuning, push, scale, length, streams, options, depth, recipe, edges or recall."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder with train.txt, valid.txt and test.txt, or a data set of the hub. "
            "Default: Salesforce/wikitext."
        ),
    ] = None,
    data_config: DataConfig = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results, one JSON file a run. Default: runs/quality, edges or recall."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of the runs in flight, with their checkpoints.")] = Path(
        "runs/compare"
    ),
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; may be given again.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="Only this seed; may be given again.")] = None,
    size: Annotated[
        str | None, typer.Option(help="tiny (two CPU cores) or base (a CUDA device). Default: tiny.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Train for so many steps, to try it out.")] = None,
    threads: Threads = None,
    report: Annotated[
        bool, typer.Option("--report", help="Run nothing: print what there is, write the figure.")
    ] = False,
    problems: Annotated[
        list[str] | None,
        typer.Option("--problem", help="Only this problem; may be given again.", rich_help_panel="Edges and recall"),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at a time, a thread each.", rich_help_panel="Edges and recall")
    ] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Try it in moments, in --out/quick.", rich_help_panel="Edges and recall")
    ] = False,
) -> None:
    """Train and measure every row of a suite that has no result yet, and print the table.

    Finished runs are kept and never repeated; one that was cut off goes on from its last checkpoint. The table and the
    figure (perplexity against measured operations) are written beside the results.

    The suite edges holds problems for attention among edges, beside attention among nodes; the suite recall, problems
    of finding what was said long ago. A run is short and has no checkpoint; --report writes the figures.
    """
    if suite in PROBLEMS:
        language = {"data": data, "data_config": data_config, "size": size, "steps": steps}
        for name, value in language.items():
            if value is not None:
                raise ValueError(f"'{name}' is for suites of language models: leave it out (got {value!r})")
        use_threads(threads)
        run_problems(suite, out or Path("runs") / suite, problems, rows, seeds, jobs, quick, report)
        return
    if problems or jobs > 1 or quick:
        raise ValueError(f"'suite' must be {' or '.join(PROBLEMS)} for --problem, --jobs and --quick (got {suite!r})")
    out = out or Path("runs/quality")
    check_extra("the figure", "demo", "plotly")
    from tmt_geo.cli.progress import OneLineProgress
    from tmt_geo.compare import SUITES, load_corpus, run_suite
    from tmt_geo.compare.report import figure, section
    from tmt_geo.compare.suites import at_size
    from tmt_geo.viz import save_figure

    if suite not in SUITES:
        raise ValueError(f"'suite' must be one of {', '.join((*SUITES, *PROBLEMS))} (got {suite!r})")
    chosen = at_size(SUITES[suite], size or "tiny")
    source = data or "Salesforce/wikitext"
    if steps is not None:
        # under a name of its own, so that a trial never takes the place of a result
        name = f"{chosen.name}-{steps}-steps"
        chosen = replace(chosen, name=name, recipe=replace(chosen.recipe, steps=steps))
    failed = 0
    if not report:
        failed = run_suite(
            chosen, lambda recipe: load_corpus(source, recipe, config_name=data_config), out, work,
            rows=rows, seeds=seeds, threads=threads, log=say, callbacks=lambda name: [OneLineProgress(name)],
        )  # fmt: skip
    text = section(chosen, out)
    if not text:
        say(f"no results in {out / chosen.name}")
        raise typer.Exit(1)
    say(text)
    page = save_figure(figure(chosen, out), out / chosen.name / "figure.html")
    (out / chosen.name / "table.md").write_text(text + "\n", encoding="utf-8")
    say(f"written: {page}")
    if failed:
        raise typer.Exit(1)
