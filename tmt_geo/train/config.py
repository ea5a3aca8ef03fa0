"""The options of one training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SETTINGS_FILE = "train.yaml"  # in the folder of a run, the options as the command reads them
REPORTERS = ("none", "tensorboard")
OPTIMIZERS = ("adamw", "muon")
LARGEST = 2**31 - 1
MOST = {"seed": 2**32 - 1, "threads": 4096}  # of NumPy's seeds; more threads than any machine has


@dataclass
class TrainConfig:
    """Options of one training run; everything is checked on construction.

    ``tmt-geo train`` has a flag for each of them but the last two, with this description and this default.

    Args:
        out: Folder of the run. It receives the model, the tokenizer, the checkpoints, the options and the history.
        resume: Go on from the last checkpoint in ``out``.
        overwrite: Replace the run that ``out`` holds. Files that no run wrote stay.
        steps: Optimiser steps.
        batch_size: Blocks in one forward pass, on one device.
        block_size: Tokens in one block. Default: 256, or the longest sequence of the model if that is less; for
            ``train_model`` the length of the blocks that it is given.
        grad_accum: Forward passes that make one optimiser step.
        learning_rate: Peak learning rate. It rises linearly through the warm-up and falls to zero along a cosine.
        optimizer: ``adamw``, or ``muon``: Muon for the weights of linear maps and AdamW for all else, the vocabulary
            head and embeddings too. An update of Muon is scaled to be as large as one of AdamW.
        weight_decay: Decoupled weight decay, on matrices alone: vectors and scalars are never decayed.
        warmup: Steps of warm-up, or below 1 their share of all steps.
        max_grad_norm: The gradient is scaled down to this norm; 0 leaves it as it is.
        adam_beta2: Decay of AdamW's second moment; the first is 0.9.
        ema_decay: Evaluate and keep an exponential moving average of the weights, of this decay a step, in place of
            the last weights. A checkpoint holds both. Default: none.
        seed: Seeds the order of the blocks and everything random in training.
        log_every: Steps between two reports.
        eval_every: Steps between two evaluations; 0 or ``None`` evaluates once, at the end.
        save_every: Steps between two checkpoints, with one more at the end; 0 or ``None`` writes no checkpoints, only
            the finished model.
        keep_checkpoints: How many checkpoints to keep, the newest ones.
        report_to: ``none`` or ``tensorboard`` (event files in ``out/runs``). Default: tensorboard if it is installed.
        bf16: Run forward and backward under bfloat16 autocast; the weights stay in float32.
        threads: CPU threads of PyTorch, for the whole process. Default: PyTorch's own choice.
        streams: Read the blocks in order, each row of a batch going on where it stopped in the batch before, in place
            of a random order. A model with a copy head then remembers what each row has read.
        progress: Print a line for each report.

    Raises:
        ValueError: An option is out of its range, or ``resume`` and ``overwrite`` are both set.
    """

    out: Path = Path("runs/tmt")
    resume: bool = False
    overwrite: bool = False
    steps: int = 1000
    batch_size: int = 8
    block_size: int | None = None
    grad_accum: int = 1
    learning_rate: float = 2e-3
    optimizer: str = "adamw"
    weight_decay: float = 0.1
    warmup: float = 0.05
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.95
    ema_decay: float | None = None
    seed: int = 0
    log_every: int = 20
    eval_every: int | None = 200
    save_every: int | None = 200
    keep_checkpoints: int = 2
    report_to: str | None = None
    bf16: bool = False
    threads: int | None = None
    streams: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        for name in ("steps", "batch_size", "grad_accum", "log_every", "keep_checkpoints"):
            _check_whole(name, getattr(self, name), at_least=1)
        for name, least in (("block_size", 2), ("eval_every", 0), ("save_every", 0), ("threads", 1)):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), at_least=least)
        _check_whole("seed", self.seed, at_least=0)
        for name in ("learning_rate", "weight_decay", "warmup", "max_grad_norm", "adam_beta2"):
            _check_not_negative(name, getattr(self, name))
        if self.learning_rate == 0:
            raise ValueError("'learning_rate' must be more than zero (got 0)")
        if self.adam_beta2 >= 1:
            raise ValueError(f"'adam_beta2' must be below 1 (got {self.adam_beta2})")
        if self.ema_decay is not None:
            _check_not_negative("ema_decay", self.ema_decay)
            if self.ema_decay >= 1:
                raise ValueError(f"'ema_decay' must be below 1 (got {self.ema_decay})")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"'optimizer' must be one of {', '.join(OPTIMIZERS)} (got {self.optimizer!r})")
        if self.report_to not in (None, *REPORTERS):
            raise ValueError(f"'report_to' must be one of {', '.join(REPORTERS)} (got {self.report_to!r})")
        if self.resume and self.overwrite:
            raise ValueError("'resume' and 'overwrite' exclude each other (got both)")


def _check_whole(name: str, value: object, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"'{name}' must be a whole number of at least {at_least} (got {value!r})")
    if value > (most := MOST.get(name, LARGEST)):
        raise ValueError(f"'{name}' must be a whole number of at most {most} (got {value})")


def _check_not_negative(name: str, value: object) -> None:
    # a YAML file gives 2e-3 as a string, and "nan" compares false with everything
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(f"'{name}' must be a number of at least 0 (got {value!r})")
