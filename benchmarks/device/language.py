"""The language model beside a Llama of as many parameters: a training step, and a forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.device.contest import contest
from benchmarks.speed.language_model import active_share, llama, tmt

if TYPE_CHECKING:
    from benchmarks.device.steps import Place

BASE = {"vocab_size": 16384, "d_model": 512, "n_layers": 8, "n_heads": 8}
TOY = {"vocab_size": 97, "d_model": 16, "n_layers": 3, "n_heads": 2}
SETTLE = 60  # forwards of 2,048 tokens after which the gates hold their budget


def compare(length: int, rows: int, place: Place, store: Callable[[list[dict]], None], thorough: bool = False) -> None:
    """Training step and forward at this length, in bfloat16; thoroughly: in float32, and a compiled forward too."""
    size, device = (TOY, torch.device("cpu")) if place.toy else (BASE, torch.device("cuda"))
    length, rows = (32, 2) if place.toy else (length, rows)
    at = f"{rows} x {length:,} tokens"
    ids = torch.randint(size["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(0)).to(device)
    done = []

    def measure(what: str, builds: dict, **options: int) -> None:
        done.append({"row": what, "at": at, "tokens": ids.numel()} | contest(builds, device, **options))
        store(done)

    models = {
        "TMT": partial(settled, length, size),
        "TMT, no exits": partial(tmt, length, size),
        "Llama, SDPA": partial(llama, length, size),
    }
    backend = "eager" if place.toy else "inductor"
    for what, make in (("training step", training_step), ("forward", forward_alone)):
        builds = {name: partial(make, build, ids, torch.bfloat16) for name, build in models.items()}
        if thorough or what == "training step":
            compiled = partial(make, models["Llama, SDPA"], ids, torch.bfloat16, backend=backend)
            builds["Llama, SDPA, compiled"] = compiled
        measure(f"{what}, bfloat16", builds)
    if thorough:
        builds = {name: partial(training_step, build, ids, torch.float32) for name, build in models.items()}
        measure("training step, float32", builds, repeats=3, warmups=2)
    model = settled(length, size, device)
    with torch.no_grad():
        store([*done, {"row": "active share of the model with exits", "at": at, "share": active_share(model, ids)}])


def settled(length: int, size: dict, device: torch.device | None = None) -> nn.Module:
    """Our model with default exits, whose gates have come to hold their budget; in evaluation mode."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
    model = tmt(length, size, exit=True).to(device).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(SETTLE):
            model(torch.randint(size["vocab_size"], (2, min(length, 1024)), generator=generator).to(device))
    return model.eval()


def training_step(
    build: Callable[[], nn.Module], ids: Tensor, dtype: torch.dtype, device: torch.device, backend: str | None = None
) -> Callable[[], object]:
    """Forward, loss, backward, AdamW."""
    model = build().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    forward = model if backend is None else torch.compile(model, backend=backend)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def forward_alone(
    build: Callable[[], nn.Module], ids: Tensor, dtype: torch.dtype, device: torch.device, backend: str | None = None
) -> Callable[[], object]:
    """The forward in the weights' type, which predicts after the last token alone."""
    model = build().to(device, dtype).eval()
    forward = model if backend is None else torch.compile(model, backend=backend)

    @torch.no_grad()
    def run() -> object:
        return forward(input_ids=ids, logits_to_keep=1, use_cache=False)

    return run
