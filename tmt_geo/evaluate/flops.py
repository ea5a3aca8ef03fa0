"""Floating-point operations of a forward pass, counted on a real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tmt_geo.evaluate.forward import measuring, plain_forward
from tmt_geo.evaluate.peers.scan import scan_flops
from tmt_geo.models.tmt.memory_tmt import Memory
from tmt_geo.ops.knn import windows

aten = torch.ops.aten


@dataclass
class FlopReport:
    """Operations of one forward pass, divided by its input tokens; a multiply and an add are two.

    Attributes:
        layers: Matrix products and dense attention outside the vocabulary head, those of a mesh search included.
        head: The product with the vocabulary.
        search: Comparisons of top-k, and of the maxima it is led by: one for each score they were given.
        edge_attention: Attention over a neighbor table: scores and weighted sums, ``4 * heads * channels`` an edge;
            and the votes of a copy head, ``2 * copy_dim + 2`` each.
    """

    layers: float
    head: float
    search: float
    edge_attention: float

    @property
    def total(self) -> float:
        """All four together."""
        return self.layers + self.head + self.search + self.edge_attention


def count_flops(model: PreTrainedModel, input_ids: Tensor, memory: Memory | None = None) -> FlopReport:
    """Count what one forward pass over ``input_ids`` executes, with ``torch.utils.flop_counter``.

    The counter sees matrix products. What it does not see, or counts too high, is added here:

    - fused attention, which it knows on GPUs only and charges for all S * S pairs even where the kernel is
      causal and skips the rest: charged for the pairs it computes, S * (S + 1) / 2 a head where causal, all of
      them where it was given a mask;
    - top-k and maxima, one comparison a score, whether or not the score had been masked;
    - the scores of the search by windows, which are gathered: by formula, for each target all candidates it can have;
    - attention as gather, multiply and sum over a mesh, by formula (for a model that reports ``num_edges`` and whose
      configuration does not say ``mesh=False``);
    - the votes of a copy head, by formula: a product of ``copy_dim`` channels and a weighted sum for each;
    - the products of all experts in one kernel; and the recurrence of a Mamba, by formula.

    Element-wise work (norms, activations, softmax, rotary, dropout) is left out for every model alike.

    Args:
        model: Any causal language model with an output embedding.
        input_ids: Full rows of tokens (B, S). With early exits the count depends on them, so give real text.
        memory: What a model remembers of the text before; it costs a search.

    Raises:
        ValueError: ``input_ids`` is not a matrix, or empty, or the model has no output embedding.
    """
    if input_ids.dim() != 2 or input_ids.numel() == 0:
        raise ValueError(f"'input_ids' must be a non-empty matrix (got shape {tuple(input_ids.shape)})")
    head = next((name for name, module in model.named_modules() if module is model.get_output_embeddings()), None)
    if head is None:
        raise ValueError(f"'model' must have an output embedding (got {type(model).__name__})")
    with measuring(model), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        out = plain_forward(model, input_ids, memory)
    counts = counter.get_flop_counts()
    head_flops = sum(counts.get(f"{type(model).__name__}.{head}", {}).values())
    search = sum(counts.get("Global", {}).get(operator, 0) for operator in COMPARISONS)
    matmuls = counter.get_total_flops() - search
    tokens = input_ids.numel()
    return FlopReport(
        layers=(matmuls - head_flops) / tokens + _gathered_scores(model, out) + scan_flops(model.config),
        head=head_flops / tokens,
        search=search / tokens,
        edge_attention=(4 * model.config.hidden_size * _mesh_edges(model, out) + _votes(model, out)) / tokens,
    )


def _mesh_edges(model: PreTrainedModel, out: Any) -> int:
    """Edges attended over by gathering; without a mesh attention is dense, and the counter has seen it."""
    edges = getattr(out, "num_edges", None)
    return int(edges.sum()) if edges is not None and getattr(model.config, "mesh", True) else 0


def _votes(model: PreTrainedModel, out: Any) -> int:
    """Operations of the votes of a copy head."""
    votes = getattr(out, "num_votes", None)
    return 0 if votes is None else int(votes) * (2 * model.config.copy_dim + 2)


def _gathered_scores(model: PreTrainedModel, out: Any) -> float:
    """Operations a token of the scores that no matrix product has made."""
    config = model.config
    search = getattr(config, "search", None) if getattr(config, "mesh", False) else None
    if search != "windows":
        return 0.0
    active = out.active_share.tolist()[:: config.rebuild_every]
    pairs = sum(active) * (1 + windows.NEAREST) * windows.WINDOW
    return pairs * 2 * (config.index_channels or config.hidden_size)


def _pairs(queries: int, keys: int, causal: bool) -> int:
    if not causal:
        return queries * keys
    full = min(queries, keys)  # query i attends to keys 0 ... i
    return full * (full + 1) // 2 + (queries - full) * keys


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], causal: bool) -> int:
    pairs = prod(query[:-2]) * _pairs(query[-2], key[-2], causal)
    return 2 * pairs * (query[-1] + value[-1])


def _flash(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], dropout_p: float = 0.0, is_causal: bool = False,
    *args: Any, **kwargs: Any,
) -> int:  # fmt: skip
    return _attention(query, key, value, is_causal)


def _biased(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], bias: object, logsumexp: object,
    dropout_p: float = 0.0, is_causal: bool = False, *args: Any, **kwargs: Any,
) -> int:  # fmt: skip
    return _attention(query, key, value, is_causal)


def _comparisons(scores: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return prod(scores)


def _grouped(rows: Sequence[int], experts: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Rows (T, C), each with the matrix of its expert (G, C, D)."""
    return 2 * prod(rows) * experts[-1]


def _matrix_vector(matrix: Sequence[int], vector: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """PyTorch's counter does not know these: the search of a single token."""
    return 2 * prod(matrix)


def _rows_by_columns(rows: Sequence[int], columns: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Rows (..., C) with columns (D, C): a product of oneDNN, as the search takes it where it is large."""
    return 2 * prod(rows) * columns[0]


COMPARISONS = (aten.topk, aten.amax, torch.ops.tmt_geo.packed_top)
FORMULAS = {
    aten.mv: _matrix_vector,
    aten._grouped_mm: _grouped,
    aten._scaled_dot_product_flash_attention_for_cpu: _flash,
    aten._scaled_dot_product_flash_attention: _flash,
    aten._scaled_dot_product_efficient_attention: _biased,
    aten._scaled_dot_product_cudnn_attention: _biased,
    aten.mkldnn_linear: _rows_by_columns,
    **dict.fromkeys(COMPARISONS, _comparisons),
}
