"""A short race: our model and a Llama of as many parameters learn the same text, each for the same time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.device.language import BASE, TOY
from benchmarks.speed.language_model import llama, tmt
from tmt_geo.data.sources import load_text
from tmt_geo.data.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from benchmarks.device.steps import Place

LENGTH, ROWS, SECONDS = 1024, 16, 20.0
EVERY = 50  # steps between two looks at the validation text
WARM = 100  # steps in which the rate rises
RATE = 6e-4


def race(place: Place, store: Callable[[list[dict]], None]) -> None:
    """Train each for the same seconds; what is compiled is compiled before the clock starts."""
    length, rows, seconds, every = (16, 4, 0.5, 2) if place.toy else (LENGTH, ROWS, SECONDS, EVERY)
    train, valid, vocab, name = tokens_of(place.data, 300 if place.toy else BASE["vocab_size"], place.toy)
    size = (TOY if place.toy else BASE) | {"vocab_size": vocab}
    device = torch.device("cpu" if place.toy else "cuda")
    train, valid = train.to(device), valid[: 8 * length * rows].to(device)
    models = {
        "TMT": partial(tmt, length, size, exit=True),
        "Llama, compiled": partial(llama, length, size),
        "TMT, no exits": partial(tmt, length, size),
    }
    done: list[dict] = []
    for who, build in models.items():
        model = build().to(device)
        about = {"row": who, "text": name, "parameters": model.num_parameters()}
        try:
            compiled = "compiled" in who and not place.toy
            done.append(about | learn(model, train, valid, length, rows, seconds, every, compiled))
        except Exception as error:  # the others do not hang on this one
            done.append(about | {"failed": f"{type(error).__name__}: {error}"[:300]})
        _at_equal_steps([row for row in done if "valid" in row])
        store(done)


def _at_equal_steps(rows: list[dict]) -> None:
    """Note the loss of each after the most steps that all have taken."""
    steps = [{look["step"] for look in row["valid"]} for row in rows]
    common = set.intersection(*steps) if steps else set()
    for row in rows if common else []:
        row["equal steps"] = max(common)
        row["loss after equal steps"] = next(look["loss"] for look in row["valid"] if look["step"] == max(common))


def tokens_of(data: Path | None, vocab_size: int, toy: bool) -> tuple[Tensor, Tensor, int, str]:
    """Training and validation tokens of a folder with WikiText-2, or of the text that Python carries."""
    splits = load_text("embedded" if data is None else str(data))
    train, valid = ("\n".join(texts)[: 20_000 if toy else None] for texts in (splits.train, splits.valid))
    tokenizer = train_tokenizer([train], vocab_size)
    parts = (tokenizer.backend_tokenizer.encode_batch(text.splitlines(keepends=True)) for text in (train, valid))
    ids = (torch.tensor([token for line in part for token in line.ids]) for part in parts)
    return *ids, len(tokenizer), splits.name


def learn(
    model: nn.Module, train: Tensor, valid: Tensor, length: int, rows: int, seconds: float, every: int, compiled: bool
) -> dict:
    """Train for so long by the clock, looks at the validation text left out of it."""
    device, initial = train.device, copy.deepcopy(model.state_dict())
    forward = torch.compile(model) if compiled else model
    generator = torch.Generator().manual_seed(0)
    offset = torch.arange(length, device=device)

    def batch() -> Tensor:
        start = torch.randint(train.numel() - length, (rows,), generator=generator).to(device)
        return train[start.unsqueeze(1) + offset]

    def loss_of(ids: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return forward(input_ids=ids, labels=ids, use_cache=False).loss

    def step(rate: float, optimizer: torch.optim.Optimizer) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(batch())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    @torch.no_grad()
    def look() -> float:
        model.eval()
        parts = valid[: valid.numel() // length * length].view(-1, length).split(rows)
        losses = [float(loss_of(part)) for part in parts if part.size(0) == rows]
        model.train()
        return sum(losses) / len(losses)

    for _ in range(3):  # compilers compile
        step(0.0, _optimizer(model))
    look()
    model.load_state_dict(initial)
    generator.manual_seed(0)

    optimizer, model = _optimizer(model), model.train()
    clock, taken, looks = 0.0, [], []
    while clock < seconds:
        _wait(device)
        begin = time.perf_counter()
        step(RATE * min(1, (len(taken) + 1) / WARM), optimizer)
        _wait(device)
        taken.append(time.perf_counter() - begin)
        clock += taken[-1]
        if len(taken) % every == 0:
            looks.append({"step": len(taken), "seconds": clock, "loss": look()})
    steady = median(taken)
    return {
        "tokens/s": rows * length / steady, "ms a step": 1e3 * steady, "steps": len(taken), "valid": looks,
        "loss after equal time": look(),
    }  # fmt: skip


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
