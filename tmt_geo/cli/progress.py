"""One quiet line for a training run: the steps, the loss and the validation loss."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class OneLineProgress(TrainerCallback):
    """A progress bar in place of the Trainer's own, which prints every log entry; for runs that newcomers watch.

    Args:
        name: What stands before the bar.
    """

    def __init__(self, name: str):
        self.name = name
        self.shown: dict[str, str] = {}
        self.bar: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Opens the bar."""
        self.bar = tqdm(total=state.max_steps, desc=self.name, unit="step", disable=not state.is_world_process_zero)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Moves it."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        """Shows the losses."""
        names = {"loss": "loss", "eval_loss": "validation"}
        self.shown |= {names[key]: f"{value:.2f}" for key, value in (logs or {}).items() if key in names}
        self.bar.set_postfix(self.shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes it."""
        self.bar.close()
