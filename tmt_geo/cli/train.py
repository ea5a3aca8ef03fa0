"""``tmt-geo train``: train a TMT on text."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tmt_geo.cli.config_file import use_config
from tmt_geo.cli.files import check_out
from tmt_geo.cli.flags import Flags, with_flags
from tmt_geo.cli.model_options import ModelOptions
from tmt_geo.cli.run_settings import check_same_run, write_settings
from tmt_geo.cli.screen import is_main_process, say
from tmt_geo.cli.training_figures import MESH_TOKENS, first_tokens
from tmt_geo.cli.training_report import can_draw, print_summary, report_page
from tmt_geo.cli.training_text import TokenizedText, TrainingText
from tmt_geo.cli.watching import SECONDS, live_report
from tmt_geo.extras import check_extra
from tmt_geo.train.config import TrainConfig

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    from tmt_geo.models import TMTConfig, TMTModel
    from tmt_geo.train import TraceCallback

LONGEST_DEFAULT_BLOCK = 256
NOT_FLAGS = ("streams", "progress")
# Options that belong to one call and not to the run.
NOT_SETTINGS = ("resume", "overwrite", *NOT_FLAGS)


@with_flags
def train(
    data: Annotated[TrainingText, Flags("Data")],
    model: Annotated[ModelOptions, Flags("Model (default: what the preset says)")],
    training: Annotated[TrainConfig, Flags("Training", skip=NOT_FLAGS)],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of options, named as the flags; flags win.", callback=use_config, is_eager=True),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write the report while the run goes; opened in a browser, it follows the run."),
    ] = False,
) -> None:
    """Train a TMT on text and leave a folder that Hugging Face loads, with a report where plotly is installed.

    Works unchanged under torchrun: torchrun --nproc-per-node 2 -m tmt_geo train ...
    """
    model_config = model.config(data.vocab_size)  # so that a wrong size is reported before any text is read
    training.block_size = block_size = _block_size(training.block_size, model_config.max_position_embeddings)
    _check_memory(model_config)
    settings = _settings(data, model, training)
    drawing = can_draw()
    _check_run(training, settings)

    from transformers.utils import logging

    from tmt_geo.train import train_model
    from tmt_geo.train.run_folder import REPORT_FILE
    from tmt_geo.train.writing import write_text

    logging.disable_progress_bar()  # of files written
    text = data.tokenize(block_size)
    network = _fresh_model(model_config, text, training.seed)
    training.streams = model_config.copy_k > 0 and text.can_stream(training.batch_size)
    size = f"{network.num_parameters():,} parameters, vocabulary {len(text.tokenizer):,}"
    work = f"{training.steps:,} steps of {training.batch_size * training.grad_accum * block_size:,} tokens"
    work_on = f"{work} on {network.device.type.upper()} -> {training.out}"
    _announce(text, block_size, f"TMT {model.preset}, {size}", work_on)

    trace = _trace(text, block_size) if drawing and model_config.mesh else None
    callbacks = [_settings_writer(training.out, settings), *([] if trace is None else [trace])]
    report = training.out / REPORT_FILE if drawing else None
    intro = f"TMT {model.preset}, {size}; text {text.splits.name}; {work}"

    def write_report(history: Sequence[Mapping[str, Any]], so_far: str, refresh: int | None = None) -> None:
        graphs = {} if trace is None else trace.graphs
        page = report_page(training.out.name, history, text.tokenizer, graphs, f"{intro}, {so_far}.", refresh)
        write_text(training.out / REPORT_FILE, page)

    if watch and report is not None:
        say(f"watch      {report}")
        callbacks.append(live_report(partial(write_report, so_far="still running", refresh=SECONDS)))
    start = time.perf_counter()
    result = train_model(network, text.tokenizer, text.train_blocks, text.valid_blocks, training, callbacks=callbacks)
    seconds = time.perf_counter() - start
    if report is not None and is_main_process():
        write_report(result.history, f"{result.tokens_per_second:,.0f} tokens a second")
    print_summary(result, seconds, report)


def _block_size(wanted: int | None, longest: int) -> int:
    if wanted is not None and wanted > longest:
        raise ValueError(f"'block_size' exceeds max_seq_len={longest} (got {wanted})")
    return wanted or min(longest, LONGEST_DEFAULT_BLOCK)


def _check_memory(model_config: TMTConfig) -> None:
    """Refuses a model whose weights, gradients and moments alone are more than the memory of this machine."""
    import torch

    from tmt_geo.models import TMTModel

    with torch.device("meta"):
        needed = 16 * TMTModel(model_config).num_parameters()  # four numbers of four bytes a parameter
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        gib = f"{needed / 2**30:,.0f} GiB for {there / 2**30:,.0f} GiB of memory"
        raise ValueError(f"'d_model', 'n_layers' and the vocabulary make too large a model (got {gib})")


def _settings(*options: TrainingText | ModelOptions | TrainConfig) -> dict[str, Any]:
    """The options of the run by the names of their flags."""
    merged = {name: value for part in options for name, value in asdict(part).items()}
    kept = {name: value for name, value in merged.items() if name not in NOT_SETTINGS}
    return kept | {"out": str(merged["out"])}


def _check_run(training: TrainConfig, settings: dict[str, Any]) -> None:
    """Refuses before any work what could not be written, logged or resumed."""
    if training.report_to == "tensorboard":
        check_extra("--report-to tensorboard", "demo", "tensorboard")
    check_out(training.out, overwrite=training.overwrite, resume=training.resume)
    if training.resume:
        check_same_run(training.out, settings)


def _fresh_model(model_config: TMTConfig, text: TokenizedText, seed: int) -> TMTModel:
    """The model with the vocabulary of the text, its weights drawn from this seed."""
    from transformers import set_seed

    from tmt_geo.models import TMTModel

    model_config.vocab_size = len(text.tokenizer)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model_config, name, getattr(text.tokenizer, name))
    set_seed(seed)
    return TMTModel(model_config)


def _announce(text: TokenizedText, block_size: int, model: str, work: str) -> None:
    tokens = len(text.train_blocks) * block_size
    valid = f"{len(text.valid_blocks) * block_size:,}" if text.valid_blocks else "too few"
    say(f"text       {text.splits.name}")
    say(f"tokens     {tokens:,} to train on, {valid} to validate")
    say(f"model      {model}")
    say(f"training   {work}")


def _trace(text: TokenizedText, block_size: int) -> TraceCallback:
    """Traces the beginning of the validation text, whose mesh the report shows."""
    from tmt_geo.train import TraceCallback

    return TraceCallback(first_tokens(text.splits.valid, text.tokenizer, min(MESH_TOKENS, block_size)))


def _settings_writer(out: Path, settings: dict[str, Any]) -> TrainerCallback:
    from transformers import TrainerCallback

    class SettingsWriter(TrainerCallback):
        """Writes the options once the folder is the run's own, so that an interrupted run can be resumed by them."""

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
        ) -> None:
            if state.is_world_process_zero:
                write_settings(out, settings)

    return SettingsWriter()
