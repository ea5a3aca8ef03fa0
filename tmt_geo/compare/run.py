"""Run what has no result yet: train, measure, keep."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model
from torch import Tensor
from transformers import PreTrainedModel

from tmt_geo.compare.models import build_model
from tmt_geo.compare.results import check_data, load, result_file, shared, store
from tmt_geo.compare.suite import Recipe, Row, Suite
from tmt_geo.data import byte_count, load_text, token_stream, tokenize_blocks, train_tokenizer, word_count
from tmt_geo.evaluate import evaluate_model, exit_profile
from tmt_geo.evaluate.passkey import passkey_accuracy
from tmt_geo.train import TrainConfig, train_model
from tmt_geo.train.checkpoint import STATE_FILE, checkpoint_folders, last_checkpoint
from tmt_geo.train.run_folder import HISTORY_FILE, OPTIONS_FILE

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, TrainerCallback

SPLITS = ("valid", "test")
PASSKEYS = 10  # a distance
LOOK = 160  # blocks of the validation split that the loss curve looks at


@dataclass(frozen=True)
class Corpus:
    """A text as all rows of a suite read it.

    Attributes:
        name: Its source.
        tokenizer: Trained on the training split.
        blocks: The training split in blocks, in order.
        look: The first blocks of the validation split.
        streams: Tokens of the validation and the test split.
        words: Words of each.
        bytes: Bytes of each.
        digest: Of all tokens, twelve hexadecimal digits.
    """

    name: str
    tokenizer: PreTrainedTokenizerFast
    blocks: Dataset
    look: Dataset
    streams: dict[str, Tensor]
    words: dict[str, int]
    bytes: dict[str, int]
    digest: str

    @property
    def train_stream(self) -> Tensor:
        """The tokens of all blocks."""
        return torch.from_numpy(self.blocks.with_format("numpy")[:]["input_ids"]).flatten()


def load_corpus(source: str, recipe: Recipe, **options: Any) -> Corpus:
    """Read a text and tokenize it with a vocabulary of its training split.

    Args:
        source: As ``load_text`` takes it: a folder with train.txt, valid.txt and test.txt, or a name of the hub.
        recipe: Whose vocabulary and blocks these are.
        **options: Of ``load_text``.
    """
    splits = load_text(source, **options)
    tokenizer = train_tokenizer(splits.train, vocab_size=recipe.vocab_size)
    blocks = tokenize_blocks(splits.train, tokenizer, recipe.block_size)
    look = tokenize_blocks(splits.valid, tokenizer, recipe.block_size)
    streams = {name: token_stream(getattr(splits, name), tokenizer) for name in SPLITS}
    digest = hashlib.sha256(blocks.with_format("numpy")[:]["input_ids"].tobytes())
    for stream in streams.values():
        digest.update(stream.numpy().tobytes())
    return Corpus(
        name=Path(source).name,
        tokenizer=tokenizer,
        blocks=blocks,
        look=look.select(range(min(LOOK, len(look)))),
        streams=streams,
        words={name: word_count(getattr(splits, name)) for name in SPLITS},
        bytes={name: byte_count(getattr(splits, name)) for name in SPLITS},
        digest=digest.hexdigest()[:12],
    )


def run_suite(
    suite: Suite,
    corpus: Callable[[Recipe], Corpus],
    out: Path,
    work: Path,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = print,
    callbacks: Callable[[str], Sequence[TrainerCallback]] = lambda name: (),
) -> int:
    """Run every row and seed that has no result of the present plan, all rows of a seed before the next seed.

    Where another suite in the same folder has made the same run, its result is taken over. A run that is cut off goes
    on from its last checkpoint when it is asked for again. A run that fails is reported on standard error, and the
    others go on.

    Args:
        suite: The suite.
        corpus: Gives the text for a recipe; asked again only where vocabulary or blocks change.
        out: Folder of the results, see :func:`~tmt_geo.compare.results.result_file`.
        work: Folder of the runs in flight: checkpoints, which are removed once a result is kept.
        rows: Names of the rows wanted; all by default.
        seeds: Seeds wanted; all by default.
        threads: CPU threads of PyTorch; None leaves them as they are.
        say: Takes a line for each finished run.
        callbacks: Gives further callbacks of the Trainer for a run of this name.

    Returns:
        int: How many runs failed.

    Raises:
        ValueError: If a row or a seed is wanted that the suite does not have, the text cannot be read, or the folder
            holds results on another text.
    """
    _check_known("rows", rows, [row.name for row in suite.rows])
    _check_known("seeds", seeds, suite.seeds)
    failed, texts = 0, {}
    for seed in suite.seeds if seeds is None else seeds:
        for row in suite.rows:
            if (rows and row.name not in rows) or load(out, suite, row, seed) is not None:
                continue
            recipe = suite.recipe_of(row)
            kind = (recipe.vocab_size, recipe.block_size)
            if kind not in texts:
                texts[kind] = corpus(recipe)
                check_data(out, suite, kind, texts[kind].digest)
            kept = result_file(out, suite, row, seed)
            folder = work / suite.name / kept.stem
            name = f"{suite.name}, {row.name}, seed {seed}"
            twin = shared(out, suite, row, seed, texts[kind].digest)
            if twin is not None:
                store(kept, twin)
                continue
            try:
                result = run_row(suite, row, seed, texts[kind], folder, threads, callbacks(name))
            except Exception as error:  # the other rows do not hang on this one
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                failed += 1
                continue
            store(kept, result)
            shutil.rmtree(folder)
            plan_file(folder).unlink()
            say(f"{name}: {suite.splits[-1]} word perplexity {result[f'{suite.splits[-1]}_word_ppl']:.1f}")
    return failed


def run_row(
    suite: Suite,
    row: Row,
    seed: int,
    corpus: Corpus,
    folder: Path,
    threads: int | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train one row with one seed and measure it, the test split once and last."""
    recipe = suite.recipe_of(row)
    forget_peak_memory()
    model = build_model(suite, row, seed)
    history = _train(model, recipe, seed, corpus, folder, suite.plan_hash(row), threads, callbacks)
    windows = {"context": recipe.block_size, "stride": recipe.stride, "batch_size": recipe.batch_size}
    begin, measured = time.perf_counter(), {}
    for split in suite.splits:
        counts = {
            "words": corpus.words[split],
            "bytes": corpus.bytes[split],
            "start_token": corpus.tokenizer.eos_token_id,
        }
        measured[split] = evaluate_model(model, corpus.streams[split], **counts, **windows)
    params = model.num_parameters()
    embeddings = {id(part.weight): part.weight.numel() for part in _embeddings(model)}
    result: dict[str, Any] = {"suite": suite.name, "row": row.name, "seed": seed, "plan": suite.plan_hash(row)}
    result |= {"params": params, "params_without_embeddings": params - sum(embeddings.values())}
    for split, report in measured.items():
        result |= {f"{split}_word_ppl": report.word_ppl, f"{split}_token_ppl": report.token_ppl}
        result |= {f"{split}_bits_per_byte": report.bits_per_byte}
    last = measured[suite.splits[-1]]
    result |= {"flops_per_token": last.flops_per_token, "flops_per_token_head": last.flops_per_token_head}
    result |= {"active_share": last.active_share, "device": str(model.device), "threads": torch.get_num_threads()}
    result |= {"steps": recipe.steps, "tokens": recipe.steps * recipe.batch_size * recipe.block_size}
    result |= {"tokens_scored": {split: report.tokens_scored for split, report in measured.items()}}
    seconds = train_seconds(history, recipe) + time.perf_counter() - begin
    result |= {"wall_seconds": seconds, "peak_memory_mib": peak_memory(model) / 2**20}
    result |= {"code": code_revision(), "torch": torch.__version__, "data": corpus.name, "data_hash": corpus.digest}
    result |= {"configuration": asdict(row), "recipe": asdict(recipe), "history": history}
    if row.profiled:
        profile = exit_profile(model, corpus.streams["test"], corpus.tokenizer, corpus.train_stream, **windows)
        result |= {"exit_profile": asdict(profile)}
    if row.passkey:
        asked = {"context": recipe.block_size, "trials": PASSKEYS, "seed": seed}
        result |= {"passkey": passkey_accuracy(model, corpus.tokenizer, corpus.streams["test"], row.passkey, **asked)}
    return result


def plan_file(folder: Path) -> Path:
    """Where the plan of a run in flight is written down, beside its folder."""
    return folder.with_name(f"{folder.name}.plan")


def _train(
    model: PreTrainedModel, recipe: Recipe, seed: int, corpus: Corpus, folder: Path, plan: str, threads: int | None,
    callbacks: Sequence[TrainerCallback],
) -> list[dict[str, Any]]:  # fmt: skip
    """Train the model, from its last checkpoint if there is one of this plan, and return the loss curve."""
    mark = plan_file(folder)
    if folder.exists() and (not mark.exists() or mark.read_text() != plan):
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(plan)
    weights = folder / "model.safetensors"
    if weights.exists() and (folder / HISTORY_FILE).exists():  # trained, but not measured
        load_model(model, weights, strict=False)
        return json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    resume = _can_resume(folder, model, recipe.steps)
    config = TrainConfig(
        out=folder,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        block_size=recipe.block_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        seed=seed,
        log_every=max(1, recipe.steps // 40),
        eval_every=recipe.eval_every,
        save_every=recipe.save_every if recipe.save_every < recipe.steps else None,
        keep_checkpoints=2,  # one to go back to where a kill leaves the last unfinished
        resume=resume,
        overwrite=not resume and (folder / OPTIONS_FILE).exists(),
        streams=True,
        threads=threads,
        report_to="none",
        progress=False,
    )
    look = corpus.look if recipe.eval_every else None
    return train_model(model, None, corpus.blocks, look, config, callbacks=callbacks).history


def _can_resume(folder: Path, model: PreTrainedModel, steps: int) -> bool:
    """Whether a checkpoint is there to go on from; what a kill left unfinished after it is removed."""
    for checkpoint in reversed(checkpoint_folders(folder)):
        try:
            last_checkpoint(folder, model)
        except ValueError:  # killed while this one was written
            shutil.rmtree(checkpoint)
            continue
        if json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))["global_step"] < steps:
            return True
        shutil.rmtree(checkpoint)  # killed before the model was kept: the last steps are done again
    return False


def _check_known(name: str, wanted: Sequence[Any] | None, known: Sequence[Any]) -> None:
    if strangers := [one for one in wanted or () if one not in known]:
        raise ValueError(f"'{name}' must be among {', '.join(map(str, known))} (got {strangers[0]!r})")


def train_seconds(history: Sequence[dict[str, Any]], recipe: Recipe) -> float:
    """Seconds in optimiser steps by the loss curve, so that those before a cut count too."""
    rows = [row for row in history if "loss" in row]
    begun = [0, *(row["step"] for row in rows)]
    tokens = recipe.batch_size * recipe.block_size
    return sum(
        (row["step"] - before) * tokens / row["tokens_per_second"] for before, row in zip(begun, rows, strict=False)
    )


def _embeddings(model: PreTrainedModel) -> list[torch.nn.Module]:
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    return [part for part in parts if part is not None]


def forget_peak_memory() -> None:
    """Let the peak begin anew with what is held now. Linux alone can do so for memory outside a CUDA device."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(model: PreTrainedModel) -> int:
    """Bytes since :func:`forget_peak_memory`: the most that the device has allocated, or on a CPU the process held."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


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
