"""Any causal language model with our copy head: the control for what the head alone is worth."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from tmt_geo.models.tmt.loss import fused_linear_cross_entropy
from tmt_geo.nn.copy_head import CopyHead, CopyMemory
from tmt_geo.ops.copying import Votes
from tmt_geo.ops.layout import DenseLayout


@dataclass
class CopyOutput(ModelOutput):
    """What :class:`CopyLM` returns; see :class:`~tmt_geo.models.tmt.output_tmt.TMTOutput`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    copy_memory: CopyMemory | None = None
    num_votes: Tensor | None = None


class CopyLM(PreTrainedModel):
    """A causal language model of the library whose predictions are mixed with what a copy head copies.

    For comparisons: it trains and is measured as :class:`~tmt_geo.TMTModel` with ``copy_k`` is, full rows of tokens,
    no padding and no cache. It can also wrap our own model without a copy head. Its configuration is the model's, with
    ``copy_k``, ``copy_dim`` and ``copy_memory``.

    Args:
        model: A causal language model with an output embedding without bias.
        k: Votes a token.
        index_dim: Channels in which tokens are compared.
        memory: Tokens from before the sequence that may be copied from.
        sentinel: Copy the less, the farther the nearest earlier tokens are.
    """

    _supports_sdpa = True  # the model within has chosen already
    can_skip_logits = True

    def __init__(
        self, model: PreTrainedModel, k: int = 32, index_dim: int = 32, memory: int = 2048, sentinel: bool = True
    ):
        config = copy.deepcopy(model.config)
        config.copy_k, config.copy_dim, config.copy_memory = k, index_dim, memory
        super().__init__(config)
        self.config_class = type(config)
        self.model = model
        tied = getattr(model, "all_tied_weights_keys", None) or {}
        self.all_tied_weights_keys = {f"model.{name}": f"model.{other}" for name, other in tied.items()}
        self.copy_head = CopyHead(config.hidden_size, k, index_dim, sentinel=sentinel)
        torch.nn.init.normal_(self.copy_head.lin_index.weight, std=0.02)
        torch.nn.init.normal_(self.copy_head.lin_gate.weight, std=0.02)

    def get_output_embeddings(self) -> Any:
        """Those of the model."""
        return self.model.get_output_embeddings()

    def get_input_embeddings(self) -> torch.nn.Module:
        """Those of the model."""
        return self.model.get_input_embeddings()

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        copy_memory: CopyMemory | None = None,
        num_items_in_batch: Tensor | int | None = None,
        shift_labels: Tensor | None = None,
        skip_logits: bool = True,
    ) -> CopyOutput:
        """Predict the next token after each of (B, S) tokens, as :class:`~tmt_geo.TMTModel` does.

        With `labels` it gives the loss, and logits beside it only unless `skip_logits`.
        """
        hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        layout = DenseLayout.uniform(input_ids.size(0), input_ids.size(1), input_ids.device)
        memory = None if copy_memory is None else copy_memory.last(self.config.copy_memory)
        votes, memory = self.copy_head(hidden.flatten(0, 1), input_ids.flatten(), layout, memory)
        votes = Votes(*(part.view(*input_ids.shape, *part.shape[1:]) for part in votes))
        num_votes = (votes.weight > 0).sum()
        head = self.get_output_embeddings()
        loss = logits = None
        if labels is not None:
            loss = fused_linear_cross_entropy(hidden, head.weight, labels, num_items_in_batch, shift_labels, votes)
        if loss is None or not skip_logits:
            logits = votes.mix(head(hidden))
        return CopyOutput(loss=loss, logits=logits, copy_memory=memory, num_votes=num_votes)
