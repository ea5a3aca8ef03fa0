"""One readable line for each report of a training run."""

from __future__ import annotations

import math
import time
from datetime import timedelta

from transformers import TrainerCallback


class ReportPrinter(TrainerCallback):
    """Prints step, loss, perplexity, tokens per second and the time that is left, from the main process alone."""

    def __init__(self):
        self._begin, self._first_step = 0.0, 0

    def on_train_begin(self, args, state, control, **kwargs):
        """Starts the clock that the time left is estimated from."""
        self._begin, self._first_step = time.perf_counter(), state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Prints a report of the training or of an evaluation; other rows are left out."""
        if not state.is_world_process_zero or not logs:
            return
        step = f"step {state.global_step:>{len(f'{state.max_steps:,}')},}/{state.max_steps:,}"
        if "eval_loss" in logs:
            print(f"{step}  validation {_loss(logs['eval_loss'])}", flush=True)
        elif "loss" in logs:
            parts = [step, f"     loss  {_loss(logs['loss'])}"]
            if "tokens_per_second" in logs:
                parts.append(f"{logs['tokens_per_second']:,.0f} tokens/s")
            print("  ".join([*parts, f"{self._time_left(state)} left"]), flush=True)

    def _time_left(self, state) -> timedelta:
        done = max(1, state.global_step - self._first_step)
        seconds = (time.perf_counter() - self._begin) / done * (state.max_steps - state.global_step)
        return timedelta(seconds=round(seconds))


def _loss(loss: float) -> str:
    perplexity = math.inf if loss > 700 else math.exp(loss)
    return f"{loss:6.3f}  perplexity {perplexity:9,.1f}"
