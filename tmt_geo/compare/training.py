"""The training of a run, which goes on where a kill has cut it off."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_model
from transformers import PreTrainedModel

from tmt_geo.compare.corpus import Corpus
from tmt_geo.compare.json_file import read_json, write_json
from tmt_geo.compare.language import LanguageRun, Recipe
from tmt_geo.train import TrainConfig, train_model
from tmt_geo.train.checkpoint import finished_steps
from tmt_geo.train.run_folder import HISTORY_FILE

if TYPE_CHECKING:
    from transformers import TrainerCallback


def train_run(
    run: LanguageRun,
    model: PreTrainedModel,
    corpus: Corpus,
    folder: Path,
    threads: int | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict[str, Any]]:
    """Train the model of a run, from its last checkpoint if there is one of its plan.

    Args:
        run: The run.
        model: Its model, trained in place.
        corpus: What it reads.
        folder: Of the checkpoints. The plan they belong to stands beside it, see :func:`plan_file`.
        threads: CPU threads of PyTorch; None leaves them as they are.
        callbacks: Further callbacks of the Trainer.

    Returns:
        The loss curve, a row a logged step.
    """
    recipe, mark = run.recipe, plan_file(folder)
    if folder.exists() and read_json(mark) != run.plan:
        shutil.rmtree(folder)
    write_json(mark, run.plan)
    if load_trained(run, model, folder):  # but not measured
        return read_json(folder / HISTORY_FILE)
    config = TrainConfig(
        out=folder,
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        block_size=recipe.block_size,
        learning_rate=recipe.learning_rate,
        optimizer=recipe.optimizer,
        ema_decay=recipe.ema_decay,
        weight_decay=recipe.weight_decay,
        warmup=recipe.warmup,
        seed=run.seed,
        log_every=max(1, recipe.steps // 40),
        eval_every=recipe.eval_every,
        save_every=recipe.save_every if recipe.save_every < recipe.steps else None,
        resume=folder.exists(),
        streams=not recipe.shuffle,
        threads=threads,
        report_to="none",
        progress=False,
    )
    curve_blocks = corpus.curve_blocks if recipe.eval_every else None
    return train_model(model, None, corpus.blocks, curve_blocks, config, callbacks=callbacks).history


def load_trained(run: LanguageRun, model: PreTrainedModel, folder: Path) -> bool:
    """Load the weights of a run that has been trained to its end; False where the folder has none of its plan."""
    if read_json(plan_file(folder)) != run.plan or finished_steps(folder) != run.recipe.steps:
        return False
    load_model(model, folder / "model.safetensors", strict=False)
    return True


def remove_training(folder: Path) -> None:
    """Remove what :func:`train_run` has left."""
    shutil.rmtree(folder)
    plan_file(folder).unlink()


def plan_file(folder: Path) -> Path:
    """Where the plan of a run in flight is written down, beside its folder."""
    return folder.with_name(f"{folder.name}.plan")


def train_seconds(history: Sequence[dict[str, Any]], recipe: Recipe) -> float:
    """Seconds in optimiser steps by the loss curve, so that those before a cut count too."""
    rows = [row for row in history if "loss" in row]
    begun = [0, *(row["step"] for row in rows)]
    tokens = recipe.batch_size * recipe.block_size
    return sum(
        (row["step"] - before) * tokens / row["tokens_per_second"] for before, row in zip(begun, rows, strict=False)
    )
