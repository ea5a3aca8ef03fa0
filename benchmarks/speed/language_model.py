"""What the rows of the language model run: our model as it ships, its peers, and what is done with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tmt_geo.evaluate import build_peer
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.models.tmt.presets_tmt import COPYING

SHIPPED = {"exit": True, **COPYING}  # the defaults of `TMTConfig` but for the copy head, which the presets add
PLAIN = {"exit": False}
SIZE = {"vocab_size": 8192, "d_model": 256, "n_layers": 6, "n_heads": 4}
TOKENS = 2048  # of a step, where sequences are shorter
SETTLE = 20  # forwards after which gates of a quick threshold hold their budget


def tmt(length: int, size: dict, **options) -> TMTModel:
    """Our model for sequences of this length; without exits unless options say so, and without dropout."""
    torch.manual_seed(0)
    return TMTModel(TMTConfig(**{"exit": False, "dropout": 0.0} | size | options, max_seq_len=length))


def peer(family: str, length: int, size: dict, **options):
    """A model of the library with as many parameters as ours has with these options, within 1 %."""
    count = tmt(length, size | options).num_parameters()
    sizes = {name: size[name] for name in SIZE}
    torch.manual_seed(0)
    return build_peer(family, count, **sizes, max_seq_len=length)


def llama(length: int, size: dict, **options):
    """The library's Llama of the size of ours, attention by SDPA."""
    return peer("llama", length, size, **options)


def tokens(length: int, size: dict, device: torch.device, at_least: int = TOKENS) -> Tensor:
    """Random tokens (B, S), of one sequence or as many as have so many tokens."""
    rows = max(1, at_least // length)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size["vocab_size"], (rows, length), generator=generator).to(device)


def training_step(model: nn.Module, ids: Tensor, compiled: bool = False):
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


def forward_alone(model: nn.Module, ids: Tensor, compiled: bool = False):
    """The forward, which predicts after the last token alone."""
    model.to(ids.device).eval()
    forward = torch.compile(model) if compiled else model

    @torch.no_grad()
    def run():
        return forward(input_ids=ids, logits_to_keep=1, use_cache=False)

    return run


def settled(model: TMTModel, ids: Tensor) -> TMTModel:
    """The same model once its gates have come to hold their budget on these tokens; in evaluation mode."""
    model.to(ids.device).train()
    gates = [layer.gate for layer in model.backbone.encoder.layers if layer.gate is not None]
    kept = [gate.momentum for gate in gates]
    for gate in gates:
        gate.momentum = 0.2  # quicker than in training: what counts is where they end
    with torch.no_grad():
        for _ in range(SETTLE if gates else 0):
            model(ids, use_cache=False)
    for gate, momentum in zip(gates, kept, strict=True):
        gate.momentum = momentum
    return model.eval()


def active_share(model: TMTModel, ids: Tensor) -> float:
    """Mean share of the tokens that a layer computes."""
    with torch.no_grad():
        return float(model(ids, logits_to_keep=1, use_cache=False).active_share.mean())


def shipped(length: int, size: dict, options: dict, device: torch.device) -> TMTModel:
    """Our model, its gates settled on short sequences: a long one takes minutes to settle on."""
    return settled(tmt(length, size, **options), tokens(min(length, 256), size, device, at_least=512))


RUNS = {"training step": training_step, "forward": forward_alone}


def ours(what: str, length: int, size: dict, options: dict, at_least: int, device: torch.device):
    """Our contestant in one of `RUNS`, its gates settled."""
    model = shipped(length, size, options, device)
    return RUNS[what](model, tokens(length, size, device, at_least))


def theirs(
    what: str, family: str, compiled: bool, length: int, size: dict, options: dict, at_least: int, device: torch.device
):
    """A peer of the size of ours."""
    return RUNS[what](peer(family, length, size, **options), tokens(length, size, device, at_least), compiled)


def share_reached(length: int, size: dict, options: dict, at_least: int, device: torch.device) -> dict:
    """The active share of a row."""
    model = shipped(length, size, options, device)
    return {"active share": active_share(model, tokens(length, size, device, at_least))}


def twins(length: int, size: dict, device: torch.device) -> tuple[TMTModel, TMTModel, Tensor]:
    """A model whose gates have settled at half, its twin without gates, and the tokens they have settled on.

    Raises:
        RuntimeError: If the active share has not come within 0.02 of one half.
    """
    ids = tokens(length, size, device)
    model = settled(tmt(length, size, exit=True, exit_budget=0.5), ids)
    if abs(active_share(model, ids) - 0.5) > 0.02:
        raise RuntimeError(f"the gates did not settle (got an active share of {active_share(model, ids):.3f})")
    full = tmt(length, size).to(device).eval()
    full.load_state_dict(model.state_dict(), strict=False)
    return model, full, ids


def half_or_whole(length: int, size: dict, half: bool, device: torch.device):
    """The forward of one of the twins."""
    model, full, ids = twins(length, size, device)
    return forward_alone(model if half else full, ids)


def shares_of_twins(length: int, size: dict, device: torch.device) -> dict:
    """The active shares of that row."""
    model, full, ids = twins(length, size, device)
    return {"active share": active_share(model, ids), "of the peer": active_share(full, ids)}
