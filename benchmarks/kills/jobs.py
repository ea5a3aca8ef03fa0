"""Runs that are small enough to be killed often: each goes on in its folder with what it finds there."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from tmt_geo.cli import app
from tmt_geo.compare import Recipe, load_corpus, run_suite, runner
from tmt_geo.compare.language import LanguageRow
from tmt_geo.compare.suites import ABLATION
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TrainConfig, train_model
from tmt_geo.train.checkpoint import finished_steps

STEPS, SAVE_EVERY, BATCH, BLOCK, VOCAB = 12, 2, 2, 16, 300
TINY = {"d_model": 16, "n_layers": 2, "n_heads": 2, "graph_k": 2, "window": 2, "memory_anchors": 2}
REMEMBERING = {"graph_k": 2, "window": 2, "exit_budget": 0.7, "copy_k": 2, "copy_memory": 64}


def train_command(folder: Path) -> None:
    """``tmt-geo train`` with the default copy head."""
    out = folder / "run"
    text = folder.parent / "train.txt"
    options = TINY | {"data": text, "vocab_size": VOCAB, "out": out, "steps": STEPS, "save_every": SAVE_EVERY}
    options |= {"batch_size": BATCH, "max_seq_len": BLOCK, "log_every": 3, "threads": 1, "report_to": "none"}
    flags = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    if finished_steps(out) < STEPS:
        app(["train", *flags, *(["--resume"] if out.is_dir() else [])], standalone_mode=False)


def mesh_memory(folder: Path) -> None:
    """A training with a mesh memory, a copy head and dropout."""
    out = folder / "run"
    set_seed(0)
    model = TMTModel(
        TMTConfig(**TINY, vocab_size=50, max_seq_len=BLOCK, exit_budget=0.7, dropout=0.1, copy_k=2, mesh_memory=24)
    )
    blocks = [{"input_ids": [(7 * row + place * place) % 50 for place in range(BLOCK)]} for row in range(15)]
    options: dict[str, Any] = {"steps": STEPS, "save_every": SAVE_EVERY, "batch_size": BATCH, "log_every": 3}
    options |= {"streams": True, "progress": False, "report_to": "none", "threads": 1}
    if finished_steps(out) < STEPS:
        train_model(model, None, blocks, blocks[:3], TrainConfig(out=out, resume=out.is_dir(), **options))


def comparison(folder: Path) -> None:
    """A suite of two rows."""
    micro = Recipe(
        d_model=16, n_layers=2, n_heads=2, vocab_size=VOCAB, block_size=BLOCK, batch_size=BATCH, steps=STEPS, stride=16
    )
    micro = replace(micro, save_every=SAVE_EVERY, dropout=0.1)
    rows = tuple(
        LanguageRow(f"memory of {length}", options=REMEMBERING | {"mesh_memory": length}, matched=False)
        for length in (0, 24)
    )
    suite = replace(ABLATION, rows=rows, recipe=micro, seeds=(1,))
    runner.remove_training = lambda trained: None  # its weights are compared
    source = str(folder.parent)
    failed = run_suite(
        suite, lambda recipe: load_corpus(source, recipe), folder / "out", folder / "work", threads=1, log=len
    )
    sys.exit(failed)


JOBS = (train_command, mesh_memory, comparison)


def write_texts(folder: Path) -> None:
    """Write the three splits that all jobs read."""
    for name, lines in {"train": 120, "valid": 12, "test": 15}.items():
        text = "\n".join(f"{name} line {n % 13} says word{n % 7} and word{n % 5}" for n in range(lines))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
