"""Perplexity of a causal language model over a whole split, every token scored exactly once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from tmt_geo.evaluate.flops import FlopReport, count_flops
from tmt_geo.evaluate.forward import measuring, remembers, scored_forward
from tmt_geo.evaluate.stream_chunks import split_stream
from tmt_geo.models.tmt.loss import IGNORED
from tmt_geo.models.tmt.memory_tmt import Memory, memory_after, remembered_tokens

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
    scorer = _Scorer(num_layers=getattr(model.config, "num_hidden_layers", 0))
    if not num_targets:
        return scorer
    context = min(context, num_targets)
    bar = partial(tqdm, disable=not progress, desc="evaluating", unit="batch")
    with measuring(model):
        windows = window_starts(num_targets, context, stride)
        counted = FLOP_WINDOWS if only is None else 0
        _score(model, tokens, wanted, windows, context, batch_size, scorer, counted, bar)
    return scorer


def window_starts(num_targets: int, context: int, stride: int) -> tuple[Tensor, Tensor]:
    """Where windows of ``context`` inputs begin, and the first place in each whose target it scores.

    Args:
        num_targets: Targets to score; target i follows input i.
        context: Length of each window, at most ``num_targets``.
        stride: Between windows.

    Returns:
        Both (W,): starts, and first scored places. Every target is scored by exactly one window.
    """
    ends = torch.arange(context, num_targets + stride, stride).clamp(max=num_targets).unique()
    scored_before = torch.cat([ends.new_zeros(1), ends[:-1]])
    starts = ends - context
    return starts, scored_before - starts


def check_stream(name: str, stream: Tensor, vocab_size: int) -> None:
    """Raise a `ValueError` if this is no vector of ids below the vocabulary size, or an empty one."""
    if stream.dim() != 1 or stream.numel() == 0 or stream.is_floating_point():
        raise ValueError(
            f"'{name}' must be a non-empty vector of ids (got shape {tuple(stream.shape)}, {stream.dtype})"
        )
    low, high = int(stream.min()), int(stream.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(f"'{name}' must hold ids from 0 to {vocab_size - 1} (got {low} to {high})")


def _score(
    model: PreTrainedModel, tokens: Tensor, wanted: Tensor, windows: tuple[Tensor, Tensor], context: int,
    batch_size: int, scorer: _Scorer, counted: int, bar: Callable,
) -> None:  # fmt: skip
    """Score all windows, and count the operations of so many of them, spread over the stream."""
    starts, first = windows
    offsets, remembering = torch.arange(context), remembers(model)
    samples = torch.linspace(0, starts.numel() - 1, min(counted, starts.numel())).long()
    memory: Memory | None = None
    end = 0
    for window, scores in bar(_batches(model, starts, batch_size)):
        if memory is not None:  # of the chunks that go on, without what their next windows read again
            memory = memory.rows(slice(-window.numel(), None)).drop_last(end - int(starts[window[-1]]))
        place = starts[window].unsqueeze(1) + offsets  # [B, S], input places in tokens
        scored = (offsets >= first[window].unsqueeze(1)) & scores.unsqueeze(1) & wanted[place + 1]
        for row in (torch.isin(window, samples) & scores).nonzero().flatten().tolist():
            here = slice(row, row + 1)
            before = None if memory is None else memory.rows(here)
            scorer.flops.append(count_flops(model, tokens[place[here]], before))
        begin = time.perf_counter()
        nll, out = scored_forward(model, tokens[place], tokens[place + 1].masked_fill(~scored, IGNORED), memory)
        scorer.seconds += time.perf_counter() - begin
        scorer.add(nll, scored, getattr(out, "exit_masks", None))
        if remembering:
            memory, end = memory_after(model.config, out), int(starts[window[-1]]) + context


def _batches(model: PreTrainedModel, starts: Tensor, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Which windows are read together, and which of them score: both (B)."""
    count = starts.numel()
    if not remembers(model):
        return [(part, torch.ones_like(part, dtype=torch.bool)) for part in torch.arange(count).split(batch_size)]
    stride = int(starts[1] - starts[0]) if count > 1 else 1
    moved = count > 1 and int(starts[-1] - starts[-2]) < stride  # the last window, to end with the text
    chunks = split_stream(count - moved, batch_size, -(-remembered_tokens(model.config) // stride))
    batches = [(chunks.begin + step, chunks.begin + step >= chunks.scored) for step in range(chunks.length)]
    return batches + [(torch.tensor([count - 1]), torch.tensor([True]))] * moved


class _Scorer:
    """Sums over the scored positions."""

    def __init__(self, num_layers: int):
        self.nll = 0.0
        self.count = 0
        self.seconds = 0.0
        self.flops: list[FlopReport] = []
        self._num_layers = num_layers
        self._active: Tensor | None = None

    def add(self, nll: float, scored: Tensor, exit_masks: Tensor | None) -> None:
        self.nll += nll
        self.count += int(scored.sum())
        if exit_masks is not None:
            active = (~exit_masks[:, scored.to(exit_masks.device)]).sum(dim=1)  # [L]
            self._active = active if self._active is None else self._active + active

    def active_share(self) -> list[float]:
        if self._active is None:
            return [1.0] * self._num_layers
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
