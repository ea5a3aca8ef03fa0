"""``tmt-geo train``: train a TMT on text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tmt_geo.cli.config_file import use_config
from tmt_geo.cli.options import Data, DataConfig, Limit, Overwrite, Streaming, TextColumn
from tmt_geo.cli.training_figures import MESH_TOKENS, first_tokens, step_sections
from tmt_geo.cli.runs import SETTINGS_FILE, can_stream, check_out, check_same_run, write_settings
from tmt_geo.cli.screen import quoted, say, say_next, speaks, this_command
from tmt_geo.extras import MissingExtra, check_extra

if TYPE_CHECKING:
    from datasets import Dataset
    from torch_geometric.data import Data as Graph
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    from tmt_geo.data import TextSplits
    from tmt_geo.models import TMTConfig
    from tmt_geo.train import TrainResult

# Options that belong to one call and not to the run.
NOT_SETTINGS = ("config", "resume", "overwrite")
SAME_WHEN_RESUMED = ("data", "data_config", "text_column", "limit", "tokenizer", "vocab_size", "block_size", "seed")
MODEL_OPTIONS = (
    "d_model",
    "n_layers",
    "n_heads",
    "max_seq_len",
    "graph_k",
    "window",
    "shift",
    "mesh",
    "decay",
    "gated_heads",
    "exit",
    "exit_rule",
    "exit_threshold",
    "exit_budget",
    "exit_after",
    "dual_stream",
    "gated_streams",
    "ffn_stream_dim",
    "memory_anchors",
    "copy_k",
    "dropout",
)
LONGEST_DEFAULT_BLOCK = 256
SIZES = {"rich_help_panel": "Model (default: what the preset says)"}
MECHANISMS = {"rich_help_panel": "Mechanisms (default: what the preset says)"}
TRAINING = {"rich_help_panel": "Training"}


def train(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for model, tokenizer, checkpoints and logs.")] = Path("runs/tmt"),
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of options, named as the flags; flags win.", callback=use_config, is_eager=True),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    overwrite: Overwrite = False,
    data: Data = "embedded",
    data_config: DataConfig = None,
    text_column: TextColumn = "text",
    streaming: Streaming = False,
    limit: Limit = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer to use, hub name or folder; default: train one.", rich_help_panel="Data"),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Size of the tokenizer to train.", rich_help_panel="Data")] = 2048,
    preset: Annotated[str, typer.Option(help="small, medium, base, large or published.", **SIZES)] = "small",
    d_model: Annotated[int | None, typer.Option(help="Width.", **SIZES)] = None,
    n_layers: Annotated[int | None, typer.Option(help="Layers.", **SIZES)] = None,
    n_heads: Annotated[int | None, typer.Option(help="Attention heads; they divide the width.", **SIZES)] = None,
    max_seq_len: Annotated[int | None, typer.Option(help="Longest sequence the model takes.", **SIZES)] = None,
    ffn_stream_dim: Annotated[int | None, typer.Option(help="Width of a feed-forward stream.", **SIZES)] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout.", **SIZES)] = None,
    mesh: Annotated[
        bool | None, typer.Option("--mesh/--no-mesh", help="kNN mesh, or dense causal attention.", **MECHANISMS)
    ] = None,
    graph_k: Annotated[int | None, typer.Option(help="Nearest neighbours a token.", **MECHANISMS)] = None,
    window: Annotated[int | None, typer.Option(help="Previous tokens that are neighbours too.", **MECHANISMS)] = None,
    shift: Annotated[
        bool | None, typer.Option("--shift/--no-shift", help="Neighbours tell what followed them.", **MECHANISMS)
    ] = None,
    decay: Annotated[str | None, typer.Option(help="log, published or none.", **MECHANISMS)] = None,
    gated_heads: Annotated[
        bool | None, typer.Option("--gated-heads/--no-gated-heads", help="Heads can be silent.", **MECHANISMS)
    ] = None,
    exit: Annotated[bool | None, typer.Option("--exit/--no-exit", help="Exit gates.", **MECHANISMS)] = None,
    exit_rule: Annotated[str | None, typer.Option(help="budget, fixed or learned.", **MECHANISMS)] = None,
    exit_threshold: Annotated[
        float | None, typer.Option(help="Fixed confidence at which a token leaves.", **MECHANISMS)
    ] = None,
    exit_budget: Annotated[
        float | None, typer.Option(help="Mean share of layers to compute, 0 to 1.", **MECHANISMS)
    ] = None,
    exit_after: Annotated[
        int | None, typer.Option(help="Layers that every token passes before it may leave.", **MECHANISMS)
    ] = None,
    dual_stream: Annotated[
        bool | None, typer.Option("--dual-stream/--no-dual-stream", help="Two feed-forward streams.", **MECHANISMS)
    ] = None,
    gated_streams: Annotated[
        bool | None, typer.Option("--gated-streams/--no-gated-streams", help="Gated units in them.", **MECHANISMS)
    ] = None,
    memory_anchors: Annotated[int | None, typer.Option(help="Memory anchors a layer; 0: none.", **MECHANISMS)] = None,
    copy_k: Annotated[
        int | None,
        typer.Option(help="Votes of the copy head, which then reads the text in order; 0: none.", **MECHANISMS),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.", **TRAINING)] = 1000,
    batch_size: Annotated[int, typer.Option(help="Sequences a forward pass.", **TRAINING)] = 8,
    block_size: Annotated[
        int | None, typer.Option(help="Tokens a sequence; default: 256, or max_seq_len if less.", **TRAINING)
    ] = None,
    grad_accum: Annotated[int, typer.Option(help="Forward passes an optimiser step.", **TRAINING)] = 1,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", **TRAINING)] = 2e-3,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of the matrices.", **TRAINING)] = 0.1,
    warmup: Annotated[float, typer.Option(help="Steps of warm-up; below 1: their share.", **TRAINING)] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and dropout.", **TRAINING)] = 0,
    log_every: Annotated[int, typer.Option(help="Steps between log lines.", **TRAINING)] = 20,
    eval_every: Annotated[int, typer.Option(help="Steps between validations.", **TRAINING)] = 200,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0: none.", **TRAINING)] = 200,
    report_to: Annotated[
        str | None, typer.Option(help="tensorboard or none; default: tensorboard if installed.", **TRAINING)
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.", **TRAINING)] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads.", **TRAINING)] = None,
) -> None:
    """Train a TMT on text and leave a folder that Hugging Face loads, with a report where plotly is installed.

    Works unchanged under torchrun: torchrun --nproc-per-node 2 -m tmt_geo train ...
    """
    settings = {name: value for name, value in ctx.params.items() if name not in NOT_SETTINGS}
    settings |= {"out": str(out)}
    model_config = _model_config(preset, vocab_size, {name: ctx.params[name] for name in MODEL_OPTIONS})
    if block_size is None:
        block_size = min(model_config.max_seq_len, LONGEST_DEFAULT_BLOCK)
    settings["block_size"] = block_size
    if block_size > model_config.max_seq_len:
        raise ValueError(f"'block_size' exceeds max_seq_len={model_config.max_seq_len} (got {block_size})")

    import torch
    from transformers import set_seed
    from transformers.utils import logging

    from tmt_geo.data import load_text, tokenize_blocks
    from tmt_geo.models import TMTModel
    from tmt_geo.train import TraceCallback, TrainConfig, train_model
    from tmt_geo.train.run_folder import REPORT_FILE

    drawing = _can_draw()
    logging.disable_progress_bar()  # those of files written; the Trainer's own stays
    if report_to == "tensorboard":
        check_extra("--report-to tensorboard", "demo", "tensorboard")
    report_to = report_to or ("tensorboard" if find_spec("tensorboard") else "none")
    train_config = TrainConfig(
        out=out,
        steps=steps,
        batch_size=batch_size,
        block_size=block_size,
        learning_rate=lr,
        weight_decay=weight_decay,
        warmup=warmup,
        grad_accum=grad_accum,
        seed=seed,
        log_every=log_every,
        eval_every=eval_every,
        save_every=save_every or None,
        resume=resume,
        overwrite=overwrite,
        report_to=report_to,
        bf16=bf16,
        threads=threads,
    )
    check_out(out, overwrite=overwrite, resume=resume)
    if resume:
        check_same_run(out, {name: settings[name] for name in SAME_WHEN_RESUMED})

    splits = load_text(data, config_name=data_config, text_column=text_column, streaming=streaming, limit=limit)
    say(f"text       {splits.name}")
    tokens = _tokenizer(splits, tokenizer, vocab_size)
    train_blocks = tokenize_blocks(splits.train, tokens, block_size)
    valid_blocks = _valid_blocks(splits, tokens, block_size)
    validating = f"{len(valid_blocks) * block_size:,} to validate" if valid_blocks else "too few to validate"
    say(f"tokens     {len(train_blocks) * block_size:,} to train on, {validating}")
    train_config.streams = model_config.copy_k > 0 and can_stream(len(train_blocks), batch_size)
    model_config.vocab_size = len(tokens)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model_config, name, getattr(tokens, name))
    set_seed(seed)
    model = TMTModel(model_config)
    size = f"{model.num_parameters():,} parameters, vocabulary {len(tokens):,}"
    say(f"model      TMT {preset}, {size}")
    work = f"{steps:,} steps of {batch_size * grad_accum * block_size:,} tokens"
    device = "GPU" if torch.cuda.is_available() else "CPU"
    say(f"training   {work} on {device} -> {out}")

    watchers = []
    if drawing and model_config.mesh:
        watchers.append(TraceCallback(first_tokens(splits.valid, tokens, min(MESH_TOKENS, block_size))))
    start = time.perf_counter()
    result = train_model(
        model,
        tokens,
        train_blocks,
        valid_blocks,
        train_config,
        callbacks=[_settings_writer(out, settings), *watchers],
    )
    seconds = time.perf_counter() - start
    report = out / REPORT_FILE if drawing else None
    if report is not None and speaks():
        speed = f"{result.tokens_per_second:,.0f} tokens a second"
        intro = f"TMT {preset}, {size}; text {splits.name}; {work}, {speed}."
        page = _report(result, tokens, watchers[0].graphs if watchers else {}, intro)
        report.write_text(page, encoding="utf-8")
    _summary(result, seconds, report_to, report)


def _model_config(preset: str, vocab_size: int, options: dict[str, Any]) -> TMTConfig:
    """Builds the configuration before any text is read, so that a wrong size is told at once."""
    from tmt_geo.models import TMTConfig

    given = {name: value for name, value in options.items() if value is not None}
    if given.get("decay") == "none":
        given["decay"] = None
    return TMTConfig.from_preset(preset, vocab_size=vocab_size, **given)


def _can_draw() -> bool:
    """Whether there will be a report; where not, says before the training what it needs."""
    try:
        check_extra("the report", "demo", "plotly", "networkx")
    except MissingExtra as missing:
        say(f"report     none: {missing}")
        return False
    return True


def _tokenizer(splits: TextSplits, name: str | None, vocab_size: int) -> PreTrainedTokenizerFast:
    from tmt_geo.data import load_tokenizer, train_tokenizer

    if name is not None:
        return load_tokenizer(name)
    return train_tokenizer(splits.train, vocab_size=vocab_size)


def _valid_blocks(splits: TextSplits, tokenizer: PreTrainedTokenizerFast, block_size: int) -> Dataset | None:
    """Cuts the validation part into blocks, ``None`` where a small text leaves less than one."""
    from tmt_geo.data import token_stream, tokenize_blocks

    if len(token_stream(splits.valid, tokenizer)) < block_size:
        return None
    return tokenize_blocks(splits.valid, tokenizer, block_size)


def _settings_writer(out: Path, settings: dict[str, Any]) -> TrainerCallback:
    from transformers import TrainerCallback

    class SettingsWriter(TrainerCallback):
        """Writes the options once the folder is the run's own, so that an interrupted run can be resumed by them."""

        def on_train_begin(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                write_settings(out, settings)

    return SettingsWriter()


def _report(
    result: TrainResult, tokenizer: PreTrainedTokenizerFast, graphs: Mapping[int, Sequence[Graph]], intro: str
) -> str:
    """Draws the losses and, where there are graphs of a passage, how it was read at each step, as one page."""
    from tmt_geo import viz

    sections = [viz.Section("Loss", viz.loss_curves({"TMT": result.history}))]
    if graphs:
        step, layers = list(graphs.items())[-1]
        if "confidence" in layers[0]:
            passage = viz.passage_of(layers, viz.token_labels(layers, tokenizer))
            caption = f"The validation text at step {step:,}; a stronger shade: more of the {len(layers)} layers."
            sections.append(viz.Section("How deep each token went", viz.exit_depth_html(passage), caption))
        sections += step_sections(graphs, tokenizer)
    return viz.figures_page(f"Training of {result.out.name}", sections, intro=intro)


def _summary(result: TrainResult, seconds: float, report_to: str, report: Path | None) -> None:
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    validation = [entry["eval_loss"] for entry in result.history if "eval_loss" in entry]
    out = quoted(result.out)
    say(f"\ntrained in {seconds:.0f} s, {result.tokens_per_second:,.0f} tokens a second")
    if losses:
        say(f"training loss    {losses[0]:.3f} -> {losses[-1]:.3f} nats a token")
    if validation:
        say(f"validation loss  {validation[-1]:.3f} nats a token")
    shares = [value for name, value in result.history[-1].items() if "active_share/" in name]
    if shares:
        say(f"active share     {' '.join(f'{share:.2f}' for share in shares)} by layer")
    say(f"saved in         {result.out}")
    if report is not None:
        say(f"report           {report}")
    command = this_command()
    commands = [
        (f"{command} evaluate {out}", "perplexity and compute on the test part of the same text"),
        (f'{command} generate {out} "The" --sample', "let it write"),
    ]
    if report_to == "tensorboard":
        tensorboard = this_command("tensorboard", "tensorboard.main")
        commands.append((f"{tensorboard} --logdir {out}", "losses, gate loss, active share and edges over time"))
    again = quoted(result.out / SETTINGS_FILE)
    commands.append((f"{command} train --config {again} --out NEW", "the same run once more; flags change it"))
    say_next(commands)
