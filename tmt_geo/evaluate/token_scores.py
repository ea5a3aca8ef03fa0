"""What a causal language model gives each token of a text, and the states that it predicts from."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tmt_geo.evaluate.forward import measuring, plain_forward
from tmt_geo.evaluate.perplexity import check_stream
from tmt_geo.evaluate.read_windows import Windows, read_windows, window_starts


class TokenScores(NamedTuple):
    """The tokens of a text, each predicted from those before it.

    Attributes:
        prob: What the model gives each token (N), in float64.
        state: What its vocabulary head reads before each token (N, F).
    """

    prob: Tensor
    state: Tensor


def score_tokens(
    model: PreTrainedModel, tokens: Tensor, *, context: int = 256, stride: int | None = None, batch_size: int = 8
) -> TokenScores:
    """Score every token of a text but the first, read as :func:`~tmt_geo.evaluate.evaluate_model` reads it.

    Args:
        model: Any causal language model whose head is a module, ``get_output_embeddings()``. Logits may be
            log-probabilities, as those of a copy head are.
        tokens: The text with its start token (N + 1).
        context: Input tokens a window.
        stride: Tokens between windows (default: ``context``).
        batch_size: Windows in one forward pass; has no influence on the result.

    Raises:
        ValueError: If `tokens` is no vector of ids below the vocabulary size or has fewer than two, or `stride`
            exceeds ``context``.
    """
    check_stream("tokens", tokens, model.config.vocab_size)
    stride = context if stride is None else stride
    if tokens.numel() < 2:
        raise ValueError(f"'tokens' must hold a start token and a text (got {tokens.numel()} tokens)")
    if not 1 <= stride <= context:
        raise ValueError(f"'stride' must lie between 1 and the context of {context} (got {stride})")
    tokens, count = tokens.cpu().long(), tokens.numel() - 1
    read_by_head: list[Tensor] = []
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def read(part: Windows) -> Any:
        out = plain_forward(model, tokens[part.place], part.memory)
        here, scored = part.place[part.scored], part.scored.to(out.logits.device)
        exact = out.logits.to(torch.promote_types(out.logits.dtype, torch.float32))
        target = tokens[part.place + 1].to(exact.device).unsqueeze(-1)
        log_prob = exact.gather(-1, target).squeeze(-1) - exact.logsumexp(-1)
        found.append((here, log_prob[scored].double().exp().cpu(), read_by_head.pop()[scored].cpu()))
        return out

    hook = model.get_output_embeddings().register_forward_pre_hook(lambda head, inputs: read_by_head.append(inputs[0]))
    try:
        with measuring(model):
            context = min(context, count)
            read_windows(model, window_starts(count, context, stride), context, batch_size, read)
    finally:
        hook.remove()
    place, prob, state = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = place.argsort()
    return TokenScores(prob[order], state[order])
