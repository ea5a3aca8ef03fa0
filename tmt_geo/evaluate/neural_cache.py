r"""The continuous neural cache: what followed alike states of the text before, without any training.

Grave, Joulin and Usunier, "Improving Neural Language Models with a Continuous Cache" (arXiv:1612.04426), equation 3:

.. math::
    p_t(w) \propto \sum_{i=t-N}^{t-1} 1[w = x_{i+1}] \exp(\theta\, h_t^\top h_i)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 512  # states at a time


def neural_cache(tokens: Tensor, state: Tensor, thetas: Sequence[float], size: int, vocab_size: int) -> Tensor:
    """Probability of each token of a text by the cache, which holds nothing later than the token before it.

    Args:
        tokens: The text with its start token (N + 1).
        state: The model's last state before each token behind the start (N, F).
        thetas: Positive factors of the products, each a cache of its own (K).
        size: States that are remembered, the latest before that of the prediction.
        vocab_size: Of the uniform distribution that an empty cache gives, at the first token.

    Returns:
        Tensor: (K, N), float64.

    Raises:
        ValueError: If there is not a state for each token behind the start, or `size` is below 1.
    """
    if tokens.dim() != 1 or state.size(0) != tokens.numel() - 1:
        raise ValueError(
            f"'state' must have a row for each token behind the start (got {state.size(0)} of {tokens.numel() - 1})"
        )
    if size < 1:
        raise ValueError(f"'size' must be at least 1 (got {size})")
    target = tokens[1:]
    prob = torch.full((len(thetas), target.numel()), 1 / vocab_size, dtype=torch.double)
    for begin in range(1, target.numel(), BLOCK):
        end, oldest = min(begin + BLOCK, target.numel()), max(begin - size, 0)
        place, seen = torch.arange(begin, end).unsqueeze(1), torch.arange(oldest, end - 1)
        outside = (seen >= place) | (seen < place - size)
        product = (state[begin:end] @ state[oldest : end - 1].T).masked_fill_(outside, -torch.inf)
        hit = target[begin:end].unsqueeze(1) == target[oldest : end - 1]  # x_{i + 1} follows state i
        for row, theta in zip(prob, thetas, strict=True):
            row[begin:end] = (theta * product).softmax(1).mul_(hit).sum(1)
    return prob
