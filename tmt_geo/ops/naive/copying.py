"""Copying what followed similar nodes, one node at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def copy_mixture(
    logits: Tensor, index: Tensor, token: Tensor, scale: Tensor, gate: Tensor, k: int, sentinel: bool = False
) -> Tensor:
    """The definition, for one sequence. Read this to learn the op.

    Args:
        logits (Tensor): Scores of the next token, shape (S, V).
        index (Tensor): Features of unit length, shape (S, F).
        token (Tensor): The tokens, shape (S).
        scale (Tensor): Factor of the cosines, a scalar.
        gate (Tensor): Logit of copying, shape (S).
        k (int): Neighbors that vote.
        sentinel (bool): Whether the share of copying depends on how near they are.

    Returns:
        Tensor: Log-probabilities of the next token, shape (S, V).
    """
    rows = []
    for i in range(token.numel()):
        predicted = logits[i].softmax(0)
        if i == 0:  # no earlier node to copy from
            rows.append(predicted.log())
            continue
        similarity = index[:i] @ index[i]
        score = similarity.detach().tolist()
        nearest = torch.tensor(sorted(range(i), key=lambda j: (score[j], j), reverse=True)[:k])
        vote = (scale * similarity[nearest]).softmax(0)
        copied = torch.zeros_like(predicted)
        for weight, j in zip(vote, nearest.tolist(), strict=True):
            copied = copied + weight * torch.eye(predicted.numel(), dtype=predicted.dtype)[token[j + 1]]
        share = gate[i].sigmoid()
        if sentinel:
            evidence = (scale * similarity[nearest]).exp().sum()
            share = evidence / (evidence + (scale - gate[i]).exp())
        rows.append(((1 - share) * predicted + share * copied).log())
    return torch.stack(rows)
