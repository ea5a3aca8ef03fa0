"""``tmt-geo evaluate``: perplexity and compute of a model over a whole split."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tmt_geo.apps.model_folder import load_run, max_context
from tmt_geo.cli.files import check_file
from tmt_geo.cli.flags import Flags, with_flags
from tmt_geo.cli.options import Overwrite, Run, Threads, Tokenizer, use_threads
from tmt_geo.cli.run_settings import read_settings
from tmt_geo.cli.screen import print_table, say
from tmt_geo.cli.text_source import TextSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tmt_geo.evaluate import EvalReport

LONGEST_DEFAULT_CONTEXT = 1024


class Split(StrEnum):
    """The parts of the text that a model is measured on."""

    VALID = "valid"
    TEST = "test"


@with_flags
def evaluate(
    run: Run,
    data: Annotated[TextSource, Flags("Data")],
    split: Annotated[Split, typer.Option(help="Part of the text.", rich_help_panel="Data")] = Split.TEST,
    context: Annotated[
        int | None, typer.Option(min=2, help="Tokens a window; default: the length it was trained at.")
    ] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Tokens between windows; default: context / 2.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows at a time.")] = 8,
    tokenizer: Tokenizer = None,
    threads: Threads = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on a whole split, every token scored exactly once.

    Without --data the text is the one that the run was trained on (its own valid or test part), else the embedded one.
    """
    from tmt_geo.viz import ModelResult, comparison_rows

    if json_file is not None:
        check_file("json", json_file, overwrite)
    use_threads(threads)
    settings = read_settings(run)
    data = data.or_that_of(settings)
    model, tokens = load_run(run, tokenizer)
    context = context or default_context(model, settings)
    limit_of_model = max_context(model)
    if limit_of_model is not None and context > limit_of_model:
        raise ValueError(f"'context' exceeds the model's max_seq_len={limit_of_model} (got {context})")

    splits = data.load()
    texts = getattr(splits, split.value)
    say(f"{run}: {split.value} part of {splits.name}, context {context} tokens")
    report = measure(model, tokens, texts, context=context, stride=stride, batch_size=batch_size, progress=True)
    result = ModelResult(run.name, model.num_parameters(), report)
    print_table([*comparison_rows([result]), ("tokens scored", [f"{report.tokens_scored:,}"])])
    say(f"every token scored once; windows of {report.context} tokens every {report.stride}")
    if json_file is not None:
        facts = {"run": str(run), "data": data.name, "split": split.value, "parameters": result.parameters}
        json_file.write_text(json.dumps(facts | asdict(report), indent=2) + "\n", encoding="utf-8")
        say(f"written: {json_file}")


def default_context(model: PreTrainedModel, settings: dict[str, Any]) -> int:
    """Returns the length that a run was trained at; for a model from elsewhere its limit, at most 1,024."""
    return settings.get("block_size") or min(max_context(model) or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], **options: Any
) -> EvalReport:
    """Measures a model on texts.

    Args:
        model: Any causal language model.
        tokenizer: Its tokenizer.
        texts: The documents of a split, all of which are scored as one stream.
        options: Handed to :func:`tmt_geo.evaluate.evaluate_model`: ``context``, ``stride``, ``batch_size``, ...
    """
    from tmt_geo.data import byte_count, token_stream, word_count
    from tmt_geo.evaluate import evaluate_model

    stream = token_stream(texts, tokenizer)
    counts = {"words": word_count(texts), "bytes": byte_count(texts)}
    # The end-of-text token separates documents, so the first one begins after one too, for every model.
    return evaluate_model(model, stream, **counts, start_token=tokenizer.eos_token_id, **options)
