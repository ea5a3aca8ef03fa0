"""``tmt-geo generate``: continue a prompt."""

from __future__ import annotations

from typing import Annotated

import typer

from tmt_geo.apps.continuation import continue_text
from tmt_geo.apps.model_folder import load_run
from tmt_geo.cli.options import Run, Threads, Tokenizer, use_threads


def generate(
    run: Run,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 60,
    sample: Annotated[bool, typer.Option("--sample", help="Draw tokens at random instead of the likeliest.")] = False,
    temperature: Annotated[float | None, typer.Option(help="With --sample: the higher, the more varied.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="With --sample: from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="With --sample: from the likeliest tokens of this joint share.")
    ] = None,
    beams: Annotated[int, typer.Option(min=1, help="Beams to search with; 1 is no beam search.")] = 1,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 discourages repetition.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    tokenizer: Tokenizer = None,
    threads: Threads = None,
) -> None:
    """Continue a prompt: greedy by default, or by --sample, or by --beams.

    Only the text goes to standard output, prompt included.
    """
    sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = [name for name, value in sampling.items() if value is not None]
    if given and not sample:
        raise ValueError(f"'{given[0]}' needs --sample (got --{given[0].replace('_', '-')} without it)")
    use_threads(threads)
    model, tokens = load_run(run, tokenizer)
    options = {**sampling, "do_sample": sample, "num_beams": beams, "repetition_penalty": repetition_penalty}
    typer.echo(continue_text(model, tokens, prompt, max_new_tokens=max_new_tokens, seed=seed, **options))
