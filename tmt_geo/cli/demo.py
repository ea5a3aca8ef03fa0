"""``tmt-geo demo``: a small TMT beside a Llama of the same size, trained, measured and shown within minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tmt_geo.apps.continuation import continue_text
from tmt_geo.apps.shell import quoted, this_command
from tmt_geo.cli.evaluate import measure
from tmt_geo.cli.files import check_out
from tmt_geo.cli.options import Data, Overwrite, Threads
from tmt_geo.cli.screen import print_table, say, say_next
from tmt_geo.cli.training_figures import MESH_TOKENS, first_tokens, step_sections
from tmt_geo.cli.training_text import TokenizedText, TrainingText
from tmt_geo.extras import check_extra
from tmt_geo.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from tmt_geo.viz import ModelResult, Passage, Section

# The budget: everything together stays under five minutes on two cores. Both models get exactly the same.
STEPS = 200
BATCH_SIZE = 8
CONTEXT = 256
VOCAB_SIZE = 2048
D_MODEL, N_LAYERS, N_HEADS = 128, 4, 4
DROPOUT = 0.0
OPTIMIZER, LEARNING_RATE = "muon", 8e-3  # both models end half a nat below AdamW at 2e-3 (benchmarks/LOG.md)
SEED = 0

PROMPT = "The"
SENTENCE_TOKENS = 50
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 40}
PASSAGE_TOKENS = 160
DEFAULT_OUT = Path("runs/demo")
NOTES = (
    "Perplexities and bits per byte: lower is better. Words are split at white space and each line end counts as one; "
    "a word is several tokens here, so after minutes of training word perplexities are in the thousands.",
    "FLOPs are those of one forward pass, counted on this run: matrix products by PyTorch's counter, attention over "
    "the mesh and the search for neighbors by formula. Active share is the part of the tokens that a layer computed.",
    "One seed and a few minutes of training: enough to see that it works, not to say which architecture is better.",
)


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; default: runs/demo, or if it exists the next free runs/demo-N."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each model.")] = STEPS,
    data: Data = "embedded",
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and sampling.")] = SEED,
    threads: Threads = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a small TMT and a Llama of the same size on the same tokens, measure both and write a report.

    Takes less than five minutes on two cores and needs no network.
    """
    check_extra("the demo", "demo", "plotly", "networkx")
    start = time.perf_counter()
    out = free_folder(out, overwrite)

    from transformers.utils import logging

    from tmt_geo.train import TraceCallback

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    say(f"Two small models, trained and measured side by side; results go to {out}.")
    text = TrainingText(data, vocab_size=VOCAB_SIZE).tokenize(CONTEXT)
    tokens = len(text.train_blocks) * CONTEXT
    say(f"text       {text.splits.name}: {tokens:,} tokens to train on, vocabulary {len(text.tokenizer):,}")
    training = TrainConfig(
        out=out,
        overwrite=overwrite,
        steps=steps,
        batch_size=BATCH_SIZE,
        block_size=CONTEXT,
        optimizer=OPTIMIZER,
        learning_rate=LEARNING_RATE,
        seed=seed,
        log_every=max(1, steps // 20),
        eval_every=max(1, steps // 5),
        save_every=0,
        report_to="none",
        threads=threads,
        progress=False,
    )
    models = build_models(len(text.tokenizer), seed)
    trace = TraceCallback(first_tokens(text.splits.valid, text.tokenizer, MESH_TOKENS))
    results = []
    for name, model in models.items():
        say(f"{name:<10} {model.num_parameters():,} parameters, {steps} steps of {BATCH_SIZE * CONTEXT:,} tokens")
        results.append(train_and_measure(name, model, text, training, [trace] if name == "TMT" else []))

    passage = read_passage(models["TMT"], text)
    seconds = time.perf_counter() - start
    settings = describe(text, training) | {"time": f"{seconds:.0f} s"}
    publish(out, results, settings, passage, step_sections(trace.graphs, text.tokenizer))
    say(f"\n{seconds:.0f} s. Open {out / 'report.html'} in a browser: curves, table, exit depths and the mesh.")
    say_next(next_commands(out))


def free_folder(out: Path | None, overwrite: bool) -> Path:
    """Returns the folder to write to, made and empty, or with a former demo that may be replaced.

    Args:
        out: The folder; ``None`` takes the first free one of ``runs/demo``, ``runs/demo-2``, ..., or with
            ``overwrite`` the first itself.
        overwrite: A former demo may be replaced.

    Raises:
        ValueError: If the folder holds files and may not be replaced, or cannot be written.
    """
    if out is None:
        out, number = DEFAULT_OUT, 1
        while not overwrite and out.exists() and not (out.is_dir() and not any(out.iterdir())):
            number += 1
            out = DEFAULT_OUT.with_name(f"{DEFAULT_OUT.name}-{number}")
        if number > 1:
            say(f"{DEFAULT_OUT} is kept; this demo goes to {out}")
    if overwrite and out.is_dir() and any(out.iterdir()) and not (out / "tmt").is_dir():
        raise ValueError(f"'out' holds files but no demo that --overwrite could replace (got {out})")
    check_out(out, overwrite=overwrite, resume=False)
    return out


def build_models(vocab_size: int, seed: int) -> dict[str, PreTrainedModel]:
    """Returns the TMT and a Llama with the same number of parameters, within one per cent, freshly drawn."""
    from transformers import set_seed

    from tmt_geo.evaluate import build_peer
    from tmt_geo.models import TMTConfig, TMTModel

    sizes: dict[str, Any] = {"vocab_size": vocab_size, "d_model": D_MODEL, "n_layers": N_LAYERS, "n_heads": N_HEADS}
    set_seed(seed)
    tmt = TMTModel(TMTConfig(**sizes, max_seq_len=CONTEXT, dropout=DROPOUT))
    set_seed(seed)
    llama = build_peer("llama", tmt.num_parameters(), **sizes, max_seq_len=CONTEXT, dropout=DROPOUT)
    return {"TMT": tmt, "Llama": llama}


def train_and_measure(
    name: str,
    model: PreTrainedModel,
    text: TokenizedText,
    training: TrainConfig,
    callbacks: Sequence[TrainerCallback] = (),
) -> ModelResult:
    """Trains a model, measures it on the test part and samples a text from it.

    Args:
        name: What to call it; in lower case the folder in that of the demo that receives it.
        model: The model, trained in place.
        text: The text, in blocks of ``CONTEXT`` tokens.
        training: How all models are trained; its ``out`` is the folder of the demo.
        callbacks: Further callbacks for the Trainer.
    """
    from tmt_geo.cli.progress import OneLineProgress
    from tmt_geo.train import train_model
    from tmt_geo.viz import ModelResult

    config = replace(training, out=training.out / name.lower())
    callbacks = [OneLineProgress(name), *callbacks]
    trained = train_model(model, text.tokenizer, text.train_blocks, text.valid_blocks, config, callbacks=callbacks)
    model.eval()
    report = measure(model, text.tokenizer, text.splits.test, context=CONTEXT, batch_size=BATCH_SIZE)
    sampling: dict[str, Any] = {"max_new_tokens": SENTENCE_TOKENS, "seed": training.seed, **SAMPLING}
    sample = continue_text(model, text.tokenizer, PROMPT, **sampling)
    return ModelResult(name, model.num_parameters(), report, trained.history, trained.tokens_per_second, sample)


def read_passage(model: PreTrainedModel, text: TokenizedText) -> Passage:
    """Returns the beginning of a test document with the number of layers that computed each of its tokens."""
    import torch

    from tmt_geo.viz import Passage, layers_computed

    ids = first_tokens(text.splits.test, text.tokenizer, PASSAGE_TOKENS)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids], device=model.device))
    return Passage(
        tokens=[str(text.tokenizer.decode([index])) for index in ids],
        depth=layers_computed(out.exit_masks)[0].tolist(),
        num_layers=len(out.exit_masks),
        source="The text is the beginning of a test document; the model has not been trained on it.",
    )


def next_commands(out: Path) -> list[tuple[str, str]]:
    """Returns commands to try after a demo, as ``(command, what it does)``."""
    run, command = quoted(out / "tmt"), this_command()
    return [
        (f'{command} generate {run} "The" --sample --seed 1', "let the TMT write something else"),
        (f'{command} inspect "A list is a sequence" --model {run}', "see what its layers do with a text, as a page"),
        (f"{command} evaluate {run} --split valid", "measure it on the other held-out part"),
        (f"{command} train --preset small --steps 2000 --out runs/small", "train a larger one on the same text"),
    ]


def describe(text: TokenizedText, training: TrainConfig) -> dict[str, str]:
    """Returns what was run, as label to value, for the head of the report."""
    embedded, vocabulary = text.splits.name == "embedded", len(text.tokenizer)
    passes = training.steps * BATCH_SIZE / len(text.train_blocks)
    return {
        "text": "the reference pages that come with Python" if embedded else text.splits.name,
        "tokens": f"{len(text.train_blocks) * CONTEXT:,} to train on, byte-level BPE of {vocabulary:,}",
        "training": f"{training.steps} steps of {BATCH_SIZE} x {CONTEXT} tokens ({passes:.1f} passes over the text), "
        f"Muon with AdamW, peak learning rate {training.learning_rate:g}, seed {training.seed}; the same tokens in "
        "the same order for each model",
        "evaluation": f"whole test part, every token scored once, windows of {CONTEXT} tokens",
    }


def publish(
    out: Path,
    results: list[ModelResult],
    settings: dict[str, str],
    passage: Passage,
    sections: Sequence[Section],
) -> None:
    """Prints the comparison and writes it as ``report.html`` and ``results.json`` into ``out``."""
    from tmt_geo.viz import build_report, comparison_rows

    page = build_report(
        results,
        title="TMT beside a Llama of the same size",
        settings=settings,
        passage=passage,
        sections=sections,
        prompt=PROMPT,
        commands=[command for command, _ in next_commands(out)],
        notes=NOTES,
    )
    (out / "report.html").write_text(page, encoding="utf-8")
    models = {
        c.name: {"parameters": c.parameters, "training_tokens_per_second": c.tokens_per_second} | asdict(c.evaluation)
        for c in results
    }
    figures = json.dumps({"settings": settings, "models": models}, indent=2) + "\n"
    (out / "results.json").write_text(figures, encoding="utf-8")

    say()
    print_table(comparison_rows(results), [result.name for result in results])
    for result in results:
        say(f"\n{result.name} writes:\n{indent(result.sample, '    ')}")
