"""The language model without its head, where Hugging Face's tools look for one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tmt_geo.models.tmt.output_tmt import TMTOutput

if TYPE_CHECKING:
    from tmt_geo.models.tmt.modeling_tmt import TMTModel


class TMTBackbone(nn.Module):
    """What :attr:`TMTModel.base_model` is: the model's own embedding and layers, and its forward without logits.

    Trainers that compute their own loss from ``last_hidden_state`` and the head's weight run it (TRL's).

    Args:
        model (TMTModel): The language model.
    """

    def __init__(self, model: TMTModel):
        super().__init__()
        self.config = model.config
        self.embed_tokens = model.embed_tokens
        self.encoder = model.encoder
        self.training = model.training
        self._run = partial(model, logits_to_keep=torch.empty(0, dtype=torch.long))  # no child: the model holds more

    def forward(self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs) -> TMTOutput:
        """Run the layers; arguments and output are those of :meth:`TMTModel.forward`, without any logits.

        Raises:
            ValueError: If the states do not hold all that the model predicts or learns from: it has a copy head or, in
                training, gates with a loss of their own.
        """
        if self.config.copy_k:
            raise ValueError(
                "states and head alone miss what the copy head predicts: train by the model's own loss "
                f"(got copy_k={self.config.copy_k})"
            )
        if self.training and self.config.gate_rule in ("fixed", "learned"):
            raise ValueError(
                "states and head alone miss the loss of the gates: train by the model's own loss "
                f"(got exit_rule={self.config.gate_rule!r})"
            )
        return self._run(input_ids, attention_mask, **kwargs)
