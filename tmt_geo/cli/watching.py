"""The report of a run, written while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SECONDS = 15  # between two versions of the page, and between two looks of a browser at it


def live_report(write: Callable[[list[dict[str, Any]]], None]) -> TrainerCallback:
    """Returns a callback that hands on the losses so far, at most every 15 seconds.

    It does so between two steps, so the clock of the steps does not run.

    Args:
        write: Takes the log entries with a loss, in order.
    """
    from transformers import TrainerCallback

    class LiveReport(TrainerCallback):
        """Writes when there is something new."""

        written = float("-inf")

        def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
            history = [row for row in state.log_history if "loss" in row or "eval_loss" in row]
            if state.is_world_process_zero and history and time.monotonic() - self.written >= SECONDS:
                write(history)
                self.written = time.monotonic()

    return LiveReport()
