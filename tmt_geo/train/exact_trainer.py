"""The Hugging Face Trainer, whose checkpoints are whole or not there, and hold all that training depends on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerState

from tmt_geo.models.tmt.memory_tmt import Memory, memory_from_state, memory_state
from tmt_geo.train.checkpoint import (
    MEMORY_FILES,
    RESUMED_FILES,
    STATE_FILE,
    UNFINISHED,
    checkpoint_folders,
    checkpoint_step,
    first_not_finite,
)
from tmt_geo.train.digests import write_digests
from tmt_geo.train.weight_average import KEY
from tmt_geo.train.writing import publish, written_to

ELEMENTWISE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", KEY)  # a number for each of a parameter


class ExactTrainer(Trainer):
    """``transformers.Trainer`` that goes on from a checkpoint as if it had never stopped.

    A checkpoint is written beside its place and moved there when it is whole. It also holds what the rows of a batch
    have read.

    Attributes:
        memory: What the model remembers of it, or None.
        model_config: The model's configuration, or None.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.memory: Memory | None = None
        self.model_config = getattr(self.accelerator.unwrap_model(self.model), "config", None)
        self._saving = False

    def restore(self, checkpoint: Path) -> None:
        """Be as after the training that ended with this checkpoint."""
        self._load_from_checkpoint(str(checkpoint))
        self.create_optimizer_and_scheduler(self.args.max_steps)
        self._load_optimizer_and_scheduler(str(checkpoint))  # an average of the weights is part of it
        self.state = TrainerState.load_from_json(str(checkpoint / STATE_FILE))

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, UNFINISHED) if self._saving else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        out, place = Path(self._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        unfinished = out / UNFINISHED
        with written_to(out):
            try:
                self._saving = True
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    if self.state.best_global_step:
                        self.state.best_model_checkpoint = str(out / f"checkpoint-{self.state.best_global_step}")
                        self.state.save_to_json(str(unfinished / place / STATE_FILE))
                    write_digests(unfinished / place, RESUMED_FILES)
                    publish(unfinished / place, out / place)
                    self._remove_old(out)
            finally:
                self._saving = False
                if self.args.should_save:
                    shutil.rmtree(unfinished, ignore_errors=True)

    def _remove_old(self, out: Path) -> None:
        # The Trainer goes by age; a damaged one of a later step, skipped in resuming, could be what it keeps.
        best = self.state.best_model_checkpoint
        done = [path for path in checkpoint_folders(out) if checkpoint_step(path) <= self.state.global_step]
        for folder in done[: -self.args.save_total_limit] if self.args.save_total_limit else []:
            if str(folder) != best:
                shutil.rmtree(folder)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save what each process has of its own."""
        super()._save_rng_state(output_dir)
        save_file(memory_state(self.memory), self._memory_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Load what each process has of its own."""
        with read_from(checkpoint):
            super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        written = len(list(Path(checkpoint).glob(MEMORY_FILES)))
        if written != self.args.world_size:
            raise ValueError(
                f"'resume' needs as many processes as wrote {checkpoint}, {written} (got {self.args.world_size})"
            )
        with read_from(checkpoint):
            state = load_file(self._memory_file(checkpoint), device=str(self.args.device))
            self.memory = memory_from_state(self.model_config, state)

    def _memory_file(self, folder: str) -> str:
        return os.path.join(folder, MEMORY_FILES.replace("*", str(self.args.process_index)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)  # Accelerate wraps it
        hook = optimizer.register_load_state_dict_pre_hook(check_shapes)
        with read_from(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        hook.remove()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with read_from(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            if name := first_not_finite(self.accelerator.unwrap_model(self.model)):
                raise ValueError(f"{name} is not finite")

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Say nothing of tied weights: `last_checkpoint` has compared the names."""


@contextmanager
def read_from(checkpoint: str | None) -> Iterator[None]:
    """What runs in it reads a checkpoint.

    Raises:
        ValueError: The checkpoint does not load, for whatever reason.
    """
    try:
        yield
    except Exception as error:  # a damaged file fails in any way
        if str(error).startswith("'resume'"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"'resume' needs a checkpoint that loads (got {checkpoint}: {reason})") from error


def check_shapes(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Check that a state fits the parameters: fused kernels do not, and would read beyond its end.

    Raises:
        ValueError: If a tensor has another shape than the parameter it belongs to.
    """
    for group, stored in zip(optimizer.param_groups, state_dict["param_groups"], strict=False):
        for parameter, number in zip(group["params"], stored["params"], strict=False):
            state = state_dict["state"].get(number, {})
            expected = dict.fromkeys(ELEMENTWISE, parameter.shape) | {"step": torch.Size()}
            for name, shape in expected.items():
                if name in state and torch.as_tensor(state[name]).shape != shape:
                    raise ValueError(
                        f"'resume' needs a state of the optimiser that fits the model, {name} of shape {tuple(shape)} "
                        f"(got {tuple(torch.as_tensor(state[name]).shape)})"
                    )
