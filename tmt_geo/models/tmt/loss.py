"""Cross-entropy of the vocabulary head without the logits: a chunk of tokens at a time, gradients included."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from tmt_geo.models.labels import check_labels
from tmt_geo.ops.block_size import block_size
from tmt_geo.ops.copying import Votes

IGNORED = -100
SCORES = 2**23  # logits that a CPU holds at once, 32 MiB in float32: with fewer, the head is gone through too often


def fused_linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    shift_labels: Tensor | None = None,
    votes: Votes | None = None,
    ignore_index: int = IGNORED,
) -> Tensor:
    r"""Score states on the labels after them: the mean of :math:`-\log \mathrm{softmax}(W h_t)_{y_{t+1}}`.

    What Hugging Face's ``ForCausalLMLoss`` gives for ``hidden @ weight.T``, in value and gradients. The logits
    (B, S, V), the largest tensor of training, never exist: each chunk's gradients are found while its logits are at
    hand (Hsu et al., "Liger Kernel", arXiv:2410.10989), which also saves projecting twice. PyTorch has had such a loss
    since 2.13, ``torch.nn.functional.linear_cross_entropy``; this one serves older releases too and is no slower.

    Args:
        hidden (Tensor): States, shape (B, S, F).
        weight (Tensor): Weight of the vocabulary head, shape (V, F).
        labels (Tensor, optional): Tokens, shape (B, S); each position is scored on the label after it.
        num_items_in_batch (Tensor or int, optional): What to divide the sum by. (default: the scored positions)
        shift_labels (Tensor, optional): In place of `labels`: what each position itself is scored on, shape (B, S).
        votes (Votes, optional): The copy head's votes, (B, S, k): the loss is then that of the mixture, see
            :mod:`tmt_geo.ops.copying`.
        ignore_index (int): The label that is not scored.

    Returns:
        Tensor: The loss in nats, a scalar of at least float32; NaN if no position is scored and no number is given.

    Raises:
        ValueError: If the labels do not have the shape of the positions, or lie outside the vocabulary.
    """
    if shift_labels is None:
        shift_labels = pad(labels, (0, 1), value=ignore_index)[..., 1:]  # type: ignore[arg-type]  # one is given
    check_labels("labels", shift_labels, hidden.shape[:-1], weight.size(0), ignore_index)
    target = shift_labels.flatten().to(hidden.device)
    scored = target != ignore_index
    target = target.masked_fill(~scored, IGNORED)
    if not torch.is_grad_enabled():
        hidden, weight = hidden.detach(), weight.detach()  # spares their gradients
    shares: tuple[Tensor | None, ...] = (None, None)
    if votes is not None:
        mixture = votes.log_shares(shift_labels.to(hidden.device).masked_fill(~scored.view_as(shift_labels), 0))
        shares = tuple(share.flatten() for share in mixture)
    total = _SummedLoss.apply(hidden.flatten(0, -2), weight, target, *shares)
    items = scored.sum() if num_items_in_batch is None else num_items_in_batch
    return total / (items.to(total.device) if isinstance(items, Tensor) else items)


class _SummedLoss(torch.autograd.Function):
    """Sum of the losses of states (N, F) under a head (V, F) with targets (N); those of -100 are not scored.

    With `keep` and `copied`, both (N), the target's log-probability is that of a mixture: the head's plus `keep`, and
    `copied`, in one logarithm.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, keep: Tensor | None, copied: Tensor | None
    ) -> Tensor:
        device = hidden.device.type
        product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        exact = torch.promote_types(hidden.dtype, torch.float32)  # of logits, sums and accumulated gradients
        head = weight.to(product)
        total = hidden.new_zeros((), dtype=exact)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if ctx.needs_input_grad[1] else None
        grad_keep, grad_copied = (None if part is None else torch.zeros_like(part) for part in (keep, copied))
        rows = min(max(1, block_size(SCORES, weight.device) // weight.size(0)), max(1, hidden.size(0)))
        buffer = hidden.new_empty(rows, weight.size(0), dtype=product)  # fresh memory for each chunk is slow
        with torch.autocast(device, enabled=False):
            for start in range(0, hidden.size(0), rows):
                part = slice(start, start + rows)
                state = hidden[part].to(product)
                scored = (target[part] != IGNORED).unsqueeze(1)  # [C, 1]
                label = target[part].unsqueeze(1).masked_fill(~scored, 0)
                score = torch.mm(state, head.t(), out=buffer[: state.size(0)]).to(exact)  # [C, V], the large tensor
                picked = score.gather(1, label)
                highest = score.amax(1, keepdim=True)
                norm = score.sub_(highest).exp_().sum(1, keepdim=True)
                loss = norm.log() + highest - picked  # [C, 1]
                due = scored.to(exact)  # the head's part of the target's probability: all of it without a mixture
                if keep is not None:
                    of_head = keep[part].unsqueeze(1) - loss
                    loss = -torch.logaddexp(of_head, copied[part].unsqueeze(1))
                    due = (of_head + loss).exp().masked_fill(~scored, 0)
                    grad_keep[part] = -due.squeeze(1)
                    grad_copied[part] = (due - scored.to(exact)).squeeze(1)
                total += loss.masked_fill(~scored, 0).sum()
                if grad_hidden is None and grad_weight is None:
                    continue
                error = score.div_(norm).scatter_add_(1, label, -torch.ones_like(picked)).to(product)
                # Rows are scaled by what is due after the products, which is cheaper for few channels than for V.
                if grad_hidden is not None:
                    grad_hidden[part] = (error @ head) * due
                if grad_weight is not None:
                    _add_product(grad_weight, error.t(), (state * due).to(product))
        grad_weight = None if grad_weight is None else grad_weight.to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_keep, grad_copied)
        ctx.empty = not bool((target != IGNORED).any())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.empty:  # a mean over nothing has an infinite gradient: as in torch, it is zero here
            grad = torch.zeros_like(grad)
        hidden, weight, *shares = (None if part is None else part * grad for part in ctx.saved_tensors)
        return (hidden, weight, None, *shares)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a total in place; where the types agree, without a product in memory."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
