"""A run of training that is long enough compiles at once, since its length is known."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tmt_geo.ops.compiled import expect_work, large_work


class CompileWhenItPays(TrainerCallback):
    """Tells the mode ``"auto"`` of :func:`~tmt_geo.set_compile` how much the steps that are left compute.

    As much as the last step did, each.
    """

    def __init__(self) -> None:
        self._before = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the count."""
        self._before = large_work()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Multiply what this step added to it."""
        expect_work((large_work() - self._before) * (state.max_steps - state.global_step))
