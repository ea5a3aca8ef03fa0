"""How much a small model repeats itself, with a copy head and without.

    python -m benchmarks.repetition --data wikitext-2

Models are trained by the recipe of ``tmt-geo compare ablation``, for 500 steps. Each continues prompts of 8 to 64
tokens from the validation text by 128 tokens, greedily and by sampling (top-p 0.9). A model with a copy head does so
once more with its vocabulary head alone: the same weights, without copying. What the text itself says behind the
prompts stands beside them, cut to the same length. The figures are those of :mod:`tmt_geo.evaluate.repetition`; the
perplexity is of the validation split. Runs what has no result yet, and prints the tables of what has.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from tmt_geo.compare.corpus import Corpus, load_corpus
from tmt_geo.compare.language import LanguageRow, LanguageRun, LanguageSuite
from tmt_geo.compare.markdown import markdown_table
from tmt_geo.compare.models import build_model
from tmt_geo.compare.suites import ABLATION
from tmt_geo.compare.training import train_run
from tmt_geo.evaluate import evaluate_model
from tmt_geo.evaluate.forward import measuring, scored_forward
from tmt_geo.evaluate.repetition import Repetition, repetition
from tmt_geo.models import TMTModel

RESULTS = Path(__file__).parent / "results"
WORK = Path(tempfile.gettempdir()) / "tmt-geo" / "repetition"
PROMPTS = {8: 10, 16: 10, 32: 10, 64: 10}  # how many of each length
NEW_TOKENS = 128
DECODING = {"greedy": {"do_sample": False}, "top-p 0.9": {"do_sample": True, "top_p": 0.9, "top_k": 0}}
SHORT = 64  # tokens of a text that is read without a memory
HEAD = ["model", "decoding", "distinct-1", "distinct-2", "distinct-3", "seq-rep-1", "seq-rep-4", "diversity"]

ROW = next(row for row in ABLATION.rows if row.name == "full, mesh by content")


def _row(name: str, **options: Any) -> LanguageRow:
    return LanguageRow(name, options=ROW.options | options, recipe=ROW.recipe)


SUITE = LanguageSuite(
    name="repetition",
    about="Continuations of short prompts.",
    rows=(
        _row("gate by the state alone", copy_sentinel=False),
        _row("gate with a sentinel", copy_sentinel=True),
        _row("without copy head", copy_k=0),
    ),
    recipe=replace(ABLATION.recipe, save_every=50),
    full=ABLATION.full,
    seeds=(42,),
    tested=False,
)


def prompts(stream: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Prompts of one length (B, S) from all over a text, and what it says behind them (B, NEW_TOKENS)."""
    for length, count in PROMPTS.items():
        begin = torch.linspace(0, stream.numel() - length - NEW_TOKENS, count).long()
        rows = stream[begin.unsqueeze(1) + torch.arange(length + NEW_TOKENS)]
        yield rows[:, :length], rows[:, length:]


def continuations(model: TMTModel, stream: Tensor, **decoding: Any) -> list[list[int]]:
    """What a model continues the prompts with."""
    set_seed(0)
    found = []
    for prompt, _ in prompts(stream):
        fixed = {"max_new_tokens": NEW_TOKENS, "attention_mask": torch.ones_like(prompt), "use_cache": True}
        found += model.generate(prompt, **fixed, **decoding)[:, prompt.size(1) :].tolist()
    return found


def short_loss(model: TMTModel, stream: Tensor) -> float:
    """What a token costs in nats in texts of `SHORT` tokens that are read without a memory."""
    rows = stream[: stream.numel() // (SHORT + 1) * (SHORT + 1)].view(-1, SHORT + 1)
    with measuring(model):
        nats = sum(scored_forward(model, part[:, :-1], part[:, 1:])[0] for part in rows.split(32))
    return nats / rows[:, 1:].numel()


@contextmanager
def vocabulary_alone(model: TMTModel) -> Iterator[None]:
    """Predict by the vocabulary head alone, without copying."""
    head, model.copy_head = model.copy_head, None
    try:
        yield
    finally:
        model.copy_head = head


def measure(run: LanguageRun, corpus: Corpus, work: Path) -> dict[str, Any]:
    """Train the model of a run, and let it continue the prompts."""
    model, recipe, stream = build_model(run), run.recipe, corpus.streams["valid"]
    train_run(run, model, corpus, work / run.file_name, threads=1)
    model.eval()
    counts = {"words": corpus.words["valid"], "bytes": corpus.bytes["valid"]}
    windows = {"context": recipe.block_size, "stride": recipe.stride, "batch_size": recipe.batch_size}
    report = evaluate_model(model, stream, start_token=corpus.tokenizer.eos_token_id, **counts, **windows)
    result = {"plan": run.plan, "seed": run.seed, "valid_word_ppl": report.word_ppl}
    result |= {"short_nats": short_loss(model, stream), "continued": _figures(model, stream)}
    if model.copy_head is not None:
        with vocabulary_alone(model):
            result |= {"vocabulary_alone": _figures(model, stream)}
            result |= {"vocabulary_alone_short_nats": short_loss(model, stream)}
    told = [row for _, said in prompts(stream) for row in said.tolist()]
    return result | {"text": asdict(repetition(told)), "data_hash": corpus.digest, "torch": torch.__version__}


def table(folder: Path = RESULTS) -> str:
    """Perplexities, and repetition, of what has a result."""
    results = {run.row.name: done for run in SUITE.runs() if (done := run.load(folder)) is not None}
    losses, lines = [], []
    for name, done in results.items():
        losses.append([name, f"{done['valid_word_ppl']:.1f}", f"{math.exp(done['short_nats']):.1f}"])
        lines += [[name, decoding, *_cells(figures)] for decoding, figures in done["continued"].items()]
        if "vocabulary_alone" in done:
            alone = f"{name}, vocabulary head alone"
            losses.append([alone, "-", f"{math.exp(done['vocabulary_alone_short_nats']):.1f}"])
            lines += [[alone, decoding, *_cells(figures)] for decoding, figures in done["vocabulary_alone"].items()]
    lines += [["the text itself", "-", *_cells(done["text"])] for done in list(results.values())[:1]]
    head = ["model", "valid ppl", f"token ppl in texts of {SHORT} tokens"]
    return f"{markdown_table(head, losses)}\n\n{markdown_table(HEAD, lines)}"


def _figures(model: TMTModel, stream: Tensor) -> dict[str, Any]:
    return {name: asdict(repetition(continuations(model, stream, **how))) for name, how in DECODING.items()}


def _cells(figures: dict[str, float]) -> list[str]:
    return [f"{value:.3f}" for value in asdict(Repetition(**figures)).values()]


def main(argv: list[str] | None = None) -> None:
    """Run what has no result yet, and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.repetition", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", help="folder with train.txt, valid.txt and test.txt; without it nothing is run")
    parser.add_argument("--row", action="append", help="only this row; may be repeated")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the trained models")
    arguments = parser.parse_args(argv)
    if arguments.data:
        torch.set_num_threads(1)
        corpus = load_corpus(arguments.data, SUITE.recipe)
        for run in SUITE.only(arguments.row).runs():
            if run.load(arguments.out) is None:
                run.store(arguments.out, measure(run, corpus, arguments.work))
    print(table(arguments.out))


if __name__ == "__main__":
    main()
