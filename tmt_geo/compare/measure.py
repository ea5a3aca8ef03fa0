"""How a row of a table of language models is measured: one model, trained and scored with one seed."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from tmt_geo.compare.caches import measure_caches
from tmt_geo.compare.corpus import Corpus
from tmt_geo.compare.language import FAR, LanguageRun
from tmt_geo.compare.memory import peak_memory, reset_peak_memory
from tmt_geo.compare.models import build_model
from tmt_geo.compare.training import train_run, train_seconds
from tmt_geo.evaluate import evaluate_model, exit_profile
from tmt_geo.evaluate.far_names import said_long_ago
from tmt_geo.evaluate.passkey import passkey_accuracy
from tmt_geo.evaluate.perplexity import mean_nll_of

if TYPE_CHECKING:
    from transformers import TrainerCallback

PASSKEYS = 10  # a distance


def measure_run(
    run: LanguageRun,
    corpus: Corpus,
    folder: Path,
    threads: int | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train the model of a run and measure it, the test split once and last; arguments as of ``train_run``.

    Returns:
        dict: Perplexities of each split, operations a token and the share of tokens each layer computes on the last
        one, parameters, the loss curve, the plan, and what it ran on.
    """
    recipe, splits = run.recipe, run.suite.splits
    reset_peak_memory()
    model = build_model(run)
    history = train_run(run, model, corpus, folder, threads, callbacks)
    windows: dict[str, Any] = {"context": recipe.block_size, "stride": recipe.stride, "batch_size": recipe.batch_size}
    begin, measured = time.perf_counter(), {}
    for split in splits:
        counts: dict[str, Any] = {
            "words": corpus.words[split],
            "bytes": corpus.bytes[split],
            "start_token": corpus.tokenizer.eos_token_id,
        }
        measured[split] = evaluate_model(model, corpus.streams[split], **counts, **windows)
    seconds = train_seconds(history, recipe) + time.perf_counter() - begin
    params, last = model.num_parameters(), measured[splits[-1]]
    result: dict[str, Any] = {"suite": run.suite.name, "row": run.row.name, "seed": run.seed}
    result |= {"params": params, "params_without_embeddings": params - _embedding_params(model)}
    for split, report in measured.items():
        result |= {f"{split}_word_ppl": report.word_ppl, f"{split}_token_ppl": report.token_ppl}
        result |= {f"{split}_bits_per_byte": report.bits_per_byte}
    result |= {"flops_per_token": last.flops_per_token, "flops_per_token_head": last.flops_per_token_head}
    result |= {"active_share": last.active_share, "device": str(model.device), "threads": torch.get_num_threads()}
    result |= {"steps": recipe.steps, "tokens": recipe.steps * recipe.batch_size * recipe.block_size}
    result |= {"tokens_scored": {split: report.tokens_scored for split, report in measured.items()}}
    result |= {"wall_seconds": seconds, "peak_memory_mib": peak_memory(model.device) / 2**20}
    result |= {"code": code_revision(), "torch": torch.__version__, "data": corpus.name, "data_hash": corpus.digest}
    result |= {"plan": run.plan, "history": history}
    if run.row.profiled:
        profile = exit_profile(model, corpus.streams["test"], corpus.tokenizer, corpus.train_stream, **windows)
        result |= {"exit_profile": asdict(profile)}
    if run.row.cached:
        result |= {"caches": measure_caches(run, model, corpus)}
    if run.suite.names is not None:
        stream = corpus.streams[splits[-1]]
        far = run.suite.names(stream, corpus.tokenizer) & said_long_ago(stream, FAR)
        nats = mean_nll_of(model, stream, far, **windows)
        result |= {"far_names": int(far.sum()), "far_bits": nats / math.log(2)}
    if run.row.passkey:
        trials = {"context": recipe.block_size, "trials": PASSKEYS, "seed": run.seed}
        found = passkey_accuracy(model, corpus.tokenizer, corpus.streams["test"], run.row.passkey, **trials)
        result |= {"passkey": found}
    return result


def code_revision() -> str:
    """The commit of the checkout that the package is in, or the version of the package."""
    here = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    try:
        return version("tmt_geo")
    except PackageNotFoundError:
        return "unknown"


def _embedding_params(model: PreTrainedModel) -> int:
    """Parameters of embedding and vocabulary head, counted once where they are tied."""
    parts: tuple[Any, ...] = (model.get_input_embeddings(), model.get_output_embeddings())
    return sum({id(part.weight): part.weight.numel() for part in parts if part is not None}.values())
