"""Train a causal language model on blocks of tokens and leave a folder that Hugging Face loads."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from tmt_geo.data.streams import stream_order
from tmt_geo.train.checkpoint import LOADED_FILES, UNFINISHED, checkpoint_step, finished_steps, last_checkpoint
from tmt_geo.train.config import TrainConfig
from tmt_geo.train.digests import write_digests
from tmt_geo.train.progress import ReportPrinter
from tmt_geo.train.run_folder import HISTORY_FILE, OPTIONS_FILE, prepare_out
from tmt_geo.train.trainer import LanguageModelTrainer, collate_blocks
from tmt_geo.train.writing import write_text, written_to


@dataclasses.dataclass
class TrainResult:
    """What a run leaves behind.

    Attributes:
        history: One mapping a logged row, in order, those before a resume included. Rows of training have ``step``,
            ``epoch``, ``loss`` (nats a target), ``learning_rate``, ``grad_norm``, ``tokens_per_second`` and what the
            model reports (see ``LanguageModelTrainer``); rows of evaluation have ``step``, ``eval_loss`` and so on.
        tokens_per_second: Mean over the steps of this call; 0 where none was left.
        out: The folder with ``config.json``, ``model.safetensors``, the tokenizer, ``history.json`` (the history as
            a list), ``train_config.json`` (the options), ``trainer_state.json``, ``digests.json`` (SHA-256 of the
            files of model and tokenizer) and the checkpoints.
    """

    history: list[dict[str, Any]]
    tokens_per_second: float
    out: Path


def train_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    train_blocks: Any,
    valid_blocks: Any,
    config: TrainConfig,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainResult:
    """Train ``model`` in place with the Hugging Face Trainer.

    Runs under ``torchrun`` and ``accelerate launch`` as it is. The loss is that of the model; see ``TrainConfig`` for
    the optimiser and the schedule. A run that was killed at any moment ends, resumed, with the weights that it would
    have had.

    Args:
        model: A causal language model whose forward takes ``input_ids`` and ``labels`` and shifts the labels.
        tokenizer: Saved beside the model; ``None`` saves the model alone.
        train_blocks: Data set of rows with ``input_ids``, each of one length, ``config.block_size`` if that is given;
            with ``config.streams`` consecutive blocks of one text.
        valid_blocks: The same for evaluation, or ``None`` for none.
        config: The options.
        callbacks: Further callbacks for the Trainer.

    Returns:
        The history and the folder. The model has been trained in place and stays on the Trainer's device.

    Raises:
        ValueError: ``out`` holds a run already or cannot be written, ``resume`` finds no run, one of another model or
            one that has done all its steps, the blocks do not have ``block_size`` tokens, or the model has fewer
            positions or a smaller vocabulary than needed. Checkpoints that are there stay whole.
    """
    block_size = _check_blocks("train_blocks", train_blocks, config.block_size)
    if valid_blocks is not None:
        _check_blocks("valid_blocks", valid_blocks, block_size)
    _check_model(model, tokenizer, block_size)
    if config.threads is not None:
        torch.set_num_threads(config.threads)

    out = config.out
    arguments = _training_arguments(config, evaluate=valid_blocks is not None)
    report = _print_error if arguments.process_index == 0 else lambda line: None
    checkpoint = _resume_point(out, model, config.steps, report) if config.resume else None
    if arguments.process_index == 0:
        if config.resume:
            shutil.rmtree(out / UNFINISHED, ignore_errors=True)
        else:
            prepare_out(out, overwrite=config.overwrite)
        options = dataclasses.asdict(config) | {"out": str(out)}
        with written_to(out):
            write_text(out / OPTIONS_FILE, json.dumps(options, indent=2) + "\n")

    if config.streams:
        # Processes take batches in turns, so that together they read the rows of one large batch.
        rows = config.batch_size * arguments.world_size
        train_blocks = Subset(train_blocks, stream_order(len(train_blocks), rows))
    use_cache = getattr(model.config, "use_cache", None)
    trainer = LanguageModelTrainer(
        model=model,
        args=arguments,
        data_collator=collate_blocks,
        train_dataset=train_blocks,
        eval_dataset=valid_blocks,
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizer=config.optimizer,
        ema_decay=config.ema_decay,
    )
    trainer.remove_callback(PrinterCallback)  # the Trainer's own, which prints whole mappings
    if config.progress:
        trainer.add_callback(ReportPrinter())
    try:
        if checkpoint is not None and checkpoint_step(checkpoint) == config.steps:  # all but the model was written
            trainer.restore(checkpoint)
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        if use_cache is not None:
            model.config.use_cache = use_cache  # the Trainer turns it off, and it would be saved that way

    if trainer.average is not None:
        trainer.average.swap()
    history = [row for row in trainer.state.log_history if "loss" in row or "eval_loss" in row]
    with written_to(out):
        trainer.save_model(str(out))
        if trainer.is_world_process_zero():
            write_text(out / HISTORY_FILE, json.dumps(history, indent=1) + "\n")
            write_digests(out, LOADED_FILES)
        trainer.save_state()  # last: it says that the model is there, see `finished_steps`
    speed = trainer.tokens_seen / trainer.seconds if trainer.seconds else 0.0
    return TrainResult(history=history, tokens_per_second=speed, out=out)


def _training_arguments(config: TrainConfig, evaluate: bool) -> TrainingArguments:
    installed = find_spec("tensorboard") is not None
    if config.report_to == "tensorboard" and not installed:
        raise ValueError("'report_to' needs the package tensorboard, which is not installed (got 'tensorboard')")
    return TrainingArguments(
        output_dir=str(config.out),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.grad_accum,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        train_sampling_strategy="sequential" if config.streams else "random",
        bf16=config.bf16,
        # without it the Trainer refuses bf16 on a CPU, and under torchrun lets each process train for itself
        use_cpu=not torch.accelerator.is_available(),
        dataloader_pin_memory=torch.accelerator.is_available(),
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,  # a loss that is not a number shows
        label_names=["labels"],  # what the collator gives: the Trainer would want all that the model can take
        eval_strategy="steps" if evaluate else "no",
        eval_steps=(config.eval_every or config.steps) if evaluate else None,
        save_strategy="steps" if config.save_every else "no",
        save_steps=config.save_every or config.steps,
        save_total_limit=config.keep_checkpoints,
        report_to=config.report_to or ("tensorboard" if installed else "none"),
        disable_tqdm=True,
    )


def _resume_point(out: Path, model: PreTrainedModel, steps: int, report: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from; None for a run that was cut off before it had one, which begins again."""
    finished = finished_steps(out)
    if finished >= steps:
        raise ValueError(f"'steps' must be more than the {finished} that the run has done (got {steps})")
    checkpoint = last_checkpoint(out, model, report)
    if checkpoint is not None:
        if checkpoint_step(checkpoint) > steps:
            raise ValueError(
                f"'steps' must be at least the {checkpoint_step(checkpoint)} that the run has done (got {steps})"
            )
        return checkpoint
    begun = out.is_dir() and ((out / OPTIONS_FILE).is_file() or not any(out.iterdir()))
    if finished or not begun:
        raise ValueError(f"'resume' needs a checkpoint in 'out' and there is none (got {out})")
    report(f"{out} holds no checkpoint yet: the run begins again")
    return None


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check_blocks(name: str, blocks: Any, block_size: int | None) -> int:
    """The tokens in a block, after a check that there are blocks and that they have ``block_size`` if it is given."""
    if len(blocks) == 0:
        raise ValueError(f"'{name}' must hold at least one block: the text is too short for 'block_size' (got none)")
    length = len(blocks[0]["input_ids"])
    if block_size not in (None, length):
        raise ValueError(f"'{name}' must hold blocks of block_size={block_size} tokens (got {length})")
    return length


def _check_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, block_size: int) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and block_size > positions:
        raise ValueError(f"'block_size' must be at most the model's {positions} positions (got {block_size})")
    known = model.config.vocab_size
    if tokenizer is not None and len(tokenizer) > known:
        raise ValueError(f"'tokenizer' must have at most the {known} tokens the model knows (got {len(tokenizer)})")
