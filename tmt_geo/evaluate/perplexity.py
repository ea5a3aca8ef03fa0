"""Perplexity of a causal language model over a whole split, every token scored exactly once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from tmt_geo.evaluate.flops import FlopReport, count_flops
from tmt_geo.evaluate.forward import measuring, scored_forward
from tmt_geo.evaluate.read_windows import Windows, read_windows, window_starts
from tmt_geo.models.tmt.loss import IGNORED

# Windows of the stream over which operations are counted. Exits make them depend on the text: with four, the same
# share of active tokens was charged a fifth more or less.
FLOP_WINDOWS = 64


@dataclass
class EvalReport:
    """What a model achieves on a stream of tokens, and at what cost.

    Attributes:
        nll: Negative log-likelihood of the whole stream in nats.
        tokens_scored: Tokens that were scored: all of them, each once.
        token_ppl: ``exp(nll / tokens_scored)``; depends on the tokenizer.
        word_ppl: ``exp(nll / words)``; comparable between tokenizers.
        bits_per_byte: ``nll / (bytes * ln 2)``.
        active_share: Share of the scored positions that each layer computed; 1.0 for a model without exits.
        flops_per_token: Operations of a forward pass a token without the vocabulary head (see ``count_flops``; search
            and attention over edges included), mean over windows spread over the stream.
        flops_per_token_head: Those of the vocabulary head.
        context: Tokens in a window.
        stride: Tokens by which it moves on.
        tokens_per_second: Scored tokens over the wall time of scoring.
    """

    nll: float
    tokens_scored: int
    token_ppl: float
    word_ppl: float
    bits_per_byte: float
    active_share: list[float]
    flops_per_token: float
    flops_per_token_head: float
    context: int
    stride: int
    tokens_per_second: float


def evaluate_model(
    model: PreTrainedModel,
    stream: Tensor,
    *,
    words: int,
    bytes: int,
    context: int = 256,
    stride: int | None = None,
    batch_size: int = 8,
    progress: bool = False,
    start_token: int | None = None,
) -> EvalReport:
    """Score every token of a stream exactly once, or some of them.

    Windows of ``context`` input tokens move over the stream by ``stride``. The first scores all its targets, each
    later one its last ``stride``, so every target is predicted from at least ``context - stride + 1`` tokens, or from
    all that precede it. The last window is moved back to end with the stream and scores only what is left: all windows
    are full, and nothing is ever padded. A stream shorter than ``context`` is one window.

    The first token has nothing before it. It is predicted from ``start_token``, which is put before the stream and not
    scored itself; without one (nor in the model's configuration) it costs ``ln V``, as if drawn uniformly.

    A model that remembers what it has read (a copy head with a memory) reads one window after the other, each with the
    memory of the text before it. The stream is cut into ``batch_size`` chunks that are read side by side. Each chunk
    first reads, without scoring it, as much as is remembered, so that the result is that of a single chunk. With
    `mesh_memory` it is nearly that: what is remembered then depends in turn on what was before it.

    Args:
        model: Any causal language model: ``input_ids`` (B, S) to ``logits`` (B, S, V). Runs on its own device.
        stream: Token ids (N,) of the whole split.
        words: Words of the split, for ``word_ppl``.
        bytes: UTF-8 bytes of the split, for ``bits_per_byte``.
        context: Input tokens a window.
        stride: Tokens between windows (default: half of ``context``). At 1 every target has the full context.
        batch_size: Windows in one forward pass; has no influence on the result.
        progress: Show a bar.
        start_token: Default: the configuration's ``bos_token_id``, else its ``eos_token_id``.
        only: Score these tokens alone, boolean (N,); all are read.

    Raises:
        ValueError: The stream is no vector of ids below the vocabulary size or is empty, ``context`` exceeds the
            model's positions, ``stride`` exceeds ``context``, or a count is below one.
    """
    vocab_size = model.config.vocab_size
    stride = max(1, context // 2) if stride is None else stride
    start_token = _start_token(model) if start_token is None else start_token
    _check(model, stream, vocab_size, start_token, words=words, bytes=bytes, context=context, batch_size=batch_size)
    if not 1 <= stride <= context:
        raise ValueError(f"'stride' must lie between 1 and the context of {context} (got {stride})")

    scorer = _read(model, stream, context, stride, batch_size, start_token, progress=progress)
    nll = scorer.nll + (0.0 if start_token is not None else math.log(vocab_size))
    flops = scorer.flops

    return EvalReport(
        nll=nll,
        tokens_scored=scorer.count + (start_token is None),
        token_ppl=_exp(nll / stream.numel()),
        word_ppl=_exp(nll / words),
        bits_per_byte=nll / (bytes * math.log(2)),
        active_share=scorer.active_share(),
        flops_per_token=_mean(report.total - report.head for report in flops),
        flops_per_token_head=_mean(report.head for report in flops),
        context=context,
        stride=stride,
        tokens_per_second=stream.numel() / max(scorer.seconds, 1e-9),
    )


def mean_nll_of(
    model: PreTrainedModel, stream: Tensor, only: Tensor, *, context: int = 256, stride: int | None = None,
    batch_size: int = 8,
) -> float:  # fmt: skip
    """What some tokens of a stream cost on average, in nats; all others are read as :func:`evaluate_model` reads them.

    Args:
        model: Any causal language model.
        stream: Token ids (N,).
        only: Which of them count, boolean (N,); the first token of the stream never does.
        context: Input tokens a window.
        stride: Tokens between windows (default: half of ``context``).
        batch_size: Windows in one forward pass.

    Raises:
        ValueError: `only` is no mask over the stream, or names none of its later tokens.
    """
    check_stream("stream", stream, model.config.vocab_size)
    if only.shape != stream.shape or only.dtype != torch.bool or not bool(only[1:].any()):
        raise ValueError(f"'only' must be a mask over the stream that names some token (got {tuple(only.shape)})")
    stride = max(1, context // 2) if stride is None else stride
    scorer = _read(model, stream, context, stride, batch_size, None, only)
    return scorer.nll / scorer.count


def _read(
    model: PreTrainedModel, stream: Tensor, context: int, stride: int, batch_size: int, start_token: int | None,
    only: Tensor | None = None, progress: bool = False,
) -> _Scorer:  # fmt: skip
    """Score a stream behind its start token, or some tokens of it; operations are counted where all are scored."""
    tokens = stream.cpu().long()
    wanted = torch.ones_like(tokens, dtype=torch.bool) if only is None else only.cpu()
    if start_token is not None:
        tokens = torch.cat([tokens.new_tensor([start_token]), tokens])
        wanted = torch.cat([wanted[:1], wanted])
    num_targets = tokens.numel() - 1
    scorer = _Scorer(model, tokens, wanted)
    if not num_targets:
        return scorer
    context = min(context, num_targets)
    windows = window_starts(num_targets, context, stride)
    if only is None:
        count = windows[0].numel()
        scorer.counted = torch.linspace(0, count - 1, min(FLOP_WINDOWS, count)).long()
    bar = partial(tqdm, disable=not progress, desc="evaluating", unit="batch")
    with measuring(model):
        read_windows(model, windows, context, batch_size, scorer.read, bar)
    return scorer


def check_stream(name: str, stream: Tensor, vocab_size: int) -> None:
    """Raise a `ValueError` if this is no vector of ids below the vocabulary size, or an empty one."""
    if stream.dim() != 1 or stream.numel() == 0 or stream.is_floating_point():
        raise ValueError(
            f"'{name}' must be a non-empty vector of ids (got shape {tuple(stream.shape)}, {stream.dtype})"
        )
    low, high = int(stream.min()), int(stream.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(f"'{name}' must hold ids from 0 to {vocab_size - 1} (got {low} to {high})")


class _Scorer:
    """Sums over the scored positions."""

    def __init__(self, model: PreTrainedModel, tokens: Tensor, wanted: Tensor):
        self.nll = 0.0
        self.count = 0
        self.seconds = 0.0
        self.flops: list[FlopReport] = []
        self.counted = torch.empty(0, dtype=torch.long)  # windows of which operations are counted
        self._model = model
        self._tokens = tokens
        self._wanted = wanted
        self._active: Tensor | None = None

    def read(self, part: Windows) -> Any:
        """Score windows; returns the model's output."""
        tokens, scored = self._tokens[part.place], part.scored & self._wanted[part.place + 1]
        for row in (torch.isin(part.index, self.counted) & part.scores).nonzero().flatten().tolist():
            here = slice(row, row + 1)
            before = None if part.memory is None else part.memory.rows(here)
            self.flops.append(count_flops(self._model, tokens[here], before))
        begin = time.perf_counter()
        targets = self._tokens[part.place + 1].masked_fill(~scored, IGNORED)
        nll, out = scored_forward(self._model, tokens, targets, part.memory)
        self.seconds += time.perf_counter() - begin
        self.nll += nll
        self.count += int(scored.sum())
        exit_masks = getattr(out, "exit_masks", None)
        if exit_masks is not None:
            active = (~exit_masks[:, scored.to(exit_masks.device)]).sum(dim=1)  # [L]
            self._active = active if self._active is None else self._active + active
        return out

    def active_share(self) -> list[float]:
        if self._active is None:
            return [1.0] * getattr(self._model.config, "num_hidden_layers", 0)
        return (self._active.double() / self.count).tolist()


def _start_token(model: PreTrainedModel) -> int | None:
    for name in ("bos_token_id", "eos_token_id"):
        token = getattr(model.config, name, None)
        if token is not None:
            return token[0] if isinstance(token, list) else token
    return None


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


def _check(model: PreTrainedModel, stream: Tensor, vocab_size: int, start_token: int | None, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {count})")
    check_stream("stream", stream, vocab_size)
    if start_token is not None and not 0 <= start_token < vocab_size:
        raise ValueError(f"'start_token' must be an id from 0 to {vocab_size - 1} (got {start_token})")
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and counts["context"] > positions:
        raise ValueError(f"'context' must be at most the model's {positions} positions (got {counts['context']})")
