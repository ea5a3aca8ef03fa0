"""The Hugging Face Trainer, with the model's own figures beside the loss."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tmt_geo.models.tmt.memory_tmt import memory_after, memory_inputs
from tmt_geo.train.compile_when_it_pays import CompileWhenItPays
from tmt_geo.train.exact_trainer import ExactTrainer
from tmt_geo.train.muon import muon_with_adamw
from tmt_geo.train.weight_average import WeightAverage


def collate_blocks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack blocks of equal length into a batch for next-token training.

    Args:
        rows: Mappings with ``input_ids``, each (S,) token ids.

    Returns:
        ``input_ids`` and ``labels``, both (B, S). The model shifts the labels, so the first of each row is no target;
        it is set to -100 here, since the Trainer divides by the labels it counts and would otherwise divide by B * S
        where there are B * (S - 1) targets.

    Raises:
        ValueError: The rows differ in length.
    """
    lengths = {len(row["input_ids"]) for row in rows}
    if len(lengths) > 1:
        raise ValueError(f"'rows' must be blocks of one length (got lengths {sorted(lengths)})")
    input_ids = torch.stack([torch.as_tensor(row["input_ids"], dtype=torch.long) for row in rows])
    labels = input_ids.clone()
    labels[:, 0] = -100
    return {"input_ids": input_ids, "labels": labels}


class _Sums:
    """Sums of what the model reported since the last logged row, kept on the device so that nothing waits for them."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, inputs: Mapping[str, Tensor], outputs: Any, num_items: Tensor | int | None) -> None:
        input_ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        tokens = torch.as_tensor(input_ids.numel() if mask is None else mask.sum(), device=input_ids.device).float()
        found = {"tokens": tokens}
        if getattr(outputs, "gate_loss", None) is not None:
            # undo the division that makes accumulated small batches equal a large one
            found["gate_loss"] = outputs.gate_loss.detach().float() * (tokens if num_items is None else num_items)
        if getattr(outputs, "num_edges", None) is not None:
            found["edges_per_token"] = outputs.num_edges.detach().float().mean()
        if getattr(outputs, "active_share", None) is not None:
            shares = outputs.active_share.detach().float() * tokens  # [L]
            found |= {f"active_share/{layer}": share for layer, share in enumerate(shares, start=1)}
        for name, value in found.items():
            self.values[name] = self.values[name] + value if name in self.values else value

    def pop(self, accelerator: Any) -> dict[str, float]:
        """The sums over all processes under their names, all but ``tokens`` divided by it; starts again from zero."""
        if not self.values:
            return {}
        names = list(self.values)
        totals = accelerator.reduce(torch.stack([self.values[name] for name in names]), reduction="sum").tolist()
        self.values = {}
        tokens = totals[names.index("tokens")]
        return {name: total if name == "tokens" else total / tokens for name, total in zip(names, totals, strict=True)}


class _StepClock(TrainerCallback):
    """Seconds spent in optimiser steps, without evaluation and saving.

    Also has the last step logged, and each that is saved: no sum is then open that a resumed run would have to know.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begin = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begin = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self.seconds += time.perf_counter() - self._begin
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True
        return control

    def pop(self) -> float:
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class LanguageModelTrainer(ExactTrainer):
    """``transformers.Trainer`` that resumes exactly, and logs beside the loss what a TMT model reports about its work.

    Rows of training get

    - ``gate_loss``: unweighted, mean over input tokens (a model that is handed ``num_items_in_batch`` must divide the
      sum over its tokens by it, as it does with the loss);
    - ``active_share/1``, ``active_share/2`` ...: share of the input tokens that each layer computed;
    - ``edges_per_token``: edges that a layer's attention used, mean over layers and input tokens;
    - ``tokens_per_second``: input tokens of all processes over the time spent in steps, without evaluation and saving.

    Rows of evaluation get the first three with the prefix ``eval_``. A model that does not report a figure has no such
    column. Weight decay applies to parameters with two or more dimensions alone.

    Where the blocks are read in order (``train_sampling_strategy="sequential"``), what a model remembers (its
    ``copy_memory``, or with `mesh_memory` its cache) is handed to its next training forward: row by row, it is about
    the text before. Checkpoints hold it. Evaluation, which runs over single batches, has none.

    Args:
        optimizer: ``"adamw"`` (the choice of the Trainer's arguments) or ``"muon"``, see
            :class:`~tmt_geo.train.muon.MuonWithAdamW`.
        ema_decay: Evaluate with an exponential moving average of the weights, of this decay; None for without.

    Attributes:
        average: That average; a checkpoint has it in the optimiser's state, and the last weights in the model's.
        tokens_seen: Input tokens that this trainer trained on, over all processes, up to the last logged row.
        seconds: Time spent in steps up to there.
    """

    def __init__(self, *args: Any, optimizer: str = "adamw", ema_decay: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.average: WeightAverage | None = None
        self._optimizer_name, self._ema_decay = optimizer, ema_decay
        self.tokens_seen = 0
        self.seconds = 0.0
        self._train_sums, self._eval_sums, self._clock = _Sums(), _Sums(), _StepClock()
        self._streams = self.args.train_sampling_strategy == "sequential"
        self.add_callback(self._clock)
        self.add_callback(CompileWhenItPays)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The model's own loss; collects the figures it reports, and hands its memory on from batch to batch."""
        remembers = self._streams and model.training
        if remembers:
            inputs = inputs | memory_inputs(self.model_config, self.memory)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if remembers:
            self.memory = memory_after(self.model_config, outputs)
        divisor = num_items_in_batch if self.model_accepts_loss_kwargs else None
        (self._train_sums if model.training else self._eval_sums).add(inputs, outputs, divisor)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser, and where it is wanted the average of what it moves."""
        if self.optimizer is None and self._optimizer_name == "muon":
            trained: Any = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(trained))
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            rate, weight_decay = self.args.learning_rate, self.args.weight_decay
            self.optimizer = muon_with_adamw(trained, decayed, rate, weight_decay, betas)
        optimizer = super().create_optimizer(model)
        if self._ema_decay is not None and self.average is None:
            self.average = WeightAverage(optimizer, self._ema_decay)
        return optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's, with the averaged weights if there are any.

        The random numbers of training stay as they were: its data loader would draw one.
        """
        averaged = nullcontext() if self.average is None else self.average.in_place()
        with torch.random.fork_rng(devices=()), averaged:
            return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a row, with the figures collected since the last one of its kind."""
        if "eval_loss" in logs:
            found = self._eval_sums.pop(self.accelerator)
            logs |= {f"eval_{name}": value for name, value in found.items() if name != "tokens"}
        elif "loss" in logs:
            found = self._train_sums.pop(self.accelerator)
            tokens, seconds = round(found.pop("tokens")), self._clock.pop()
            self.tokens_seen += tokens
            self.seconds += seconds
            logs |= {**found, "tokens_per_second": tokens / seconds}
        super().log(logs, start_time)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the matrices: a gain, a bias, a decay rate or a threshold has no business near zero."""
        return [name for name, parameter in model.named_parameters() if parameter.dim() >= 2]
