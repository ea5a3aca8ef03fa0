"""Rows of the language model with its default options: 256 channels, 4 heads, 6 layers, a vocabulary of 8,192."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.speed.row import SpeedRow, share
from tmt_geo.evaluate import build_peer
from tmt_geo.models import TMTConfig, TMTModel

SIZE = {"vocab_size": 8192, "d_model": 256, "n_layers": 6, "n_heads": 4}
TOKENS = 2048  # of a step, where sequences are shorter


def tmt(length: int, size: dict, **options) -> TMTModel:
    """Our model for sequences of this length; without exits unless options say so, and without dropout."""
    torch.manual_seed(0)
    return TMTModel(TMTConfig(**{"exit": False, "dropout": 0.0} | size | options, max_seq_len=length))


def llama(length: int, size: dict):
    """The library's Llama with as many parameters within 1 %, attention by SDPA."""
    count = tmt(length, size).num_parameters()
    torch.manual_seed(0)
    return build_peer("llama", count, **size, max_seq_len=length)


def tokens(length: int, size: dict, device: torch.device) -> Tensor:
    """Random tokens (B, S)."""
    rows = max(1, TOKENS // length)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size["vocab_size"], (rows, length), generator=generator).to(device)


def training_step(model: nn.Module, ids: Tensor, compiled: bool):
    """Forward, loss, backward, AdamW."""
    model.to(ids.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model

    def run():
        loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def tmt_step(length: int, size: dict, device: torch.device):
    """Our training step."""
    return training_step(tmt(length, size), tokens(length, size, device), compiled=False)


def llama_step(length: int, size: dict, compiled: bool, device: torch.device):
    """The peer's training step."""
    return training_step(llama(length, size), tokens(length, size, device), compiled)


def training_row(length: int, goal, size: dict = SIZE, **options) -> SpeedRow:
    """A training step at this length."""
    peers = {f"Llama, SDPA, {how}": partial(llama_step, length, size, how == "compiled") for how in HOW}
    name = "LM training step, no exits" + (", peak memory" if options.get("unit") == "MiB" else "")
    return SpeedRow(name, f"{length:,} tokens", goal, ours=partial(tmt_step, length, size), peers=peers, **options)


def gated(length: int, size: dict, device: torch.device) -> tuple[TMTModel, TMTModel, Tensor]:
    """A model whose gates have settled at half, its twin without gates, and the tokens they have settled on.

    Raises:
        RuntimeError: If the active share has not come within 0.02 of one half.
    """
    model, ids = tmt(length, size, exit=True, exit_budget=0.5).to(device), tokens(length, size, device)
    with torch.no_grad():
        for _ in range(100):
            model.train()(ids)
            if abs(active_share(model.eval(), ids) - 0.5) <= 0.02:
                break
        else:
            raise RuntimeError(f"the gates did not settle (got an active share of {active_share(model, ids):.3f})")
    full = tmt(length, size).to(device).eval()
    full.load_state_dict(model.state_dict(), strict=False)
    return model, full, ids


def active_share(model: TMTModel, ids: Tensor) -> float:
    """Mean share of the tokens that a layer computes."""
    return float(model(ids, logits_to_keep=1, use_cache=False).active_share.mean())


def forward_only(length: int, size: dict, half: bool, device: torch.device):
    """The forward outside the head: it predicts after the last token alone."""
    model, full, ids = gated(length, size, device)
    model = model if half else full

    @torch.no_grad()
    def run():
        return model(ids, logits_to_keep=1, use_cache=False)

    return run


def share_reached(length: int, size: dict, device: torch.device) -> dict:
    """The active share of the row."""
    model, full, ids = gated(length, size, device)
    with torch.no_grad():
        return {"active share": active_share(model, ids), "of the peer": active_share(full, ids)}


def exit_row(length: int, size: dict = SIZE) -> SpeedRow:
    """A forward with half of the work, beside the whole."""
    return SpeedRow(
        "forward with an active share of 1/2, outside the head", f"{length:,} tokens", share(0.62, 0.55, "time"),
        ours=partial(forward_only, length, size, True),
        peers={"the same model, all active": partial(forward_only, length, size, False)},
        notes=partial(share_reached, length, size),
    )  # fmt: skip


HOW = ("eager", "compiled")
ROWS = [
    training_row(256, share(1.2, 1.0, "time"), repeats=7),
    training_row(4096, share(0.4, 0.25, "time"), repeats=5, warmups=2),
    training_row(16384, share(0.15, 0.08, "time"), repeats=3, warmups=1),
    training_row(16384, share(0.5, 0.25, "memory"), unit="MiB"),
    exit_row(256),
    exit_row(4096),
]
