"""Muon for the matrices of a model and AdamW for the rest, as one optimiser."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class MuonWithAdamW(Optimizer):
    r"""Groups of matrices moved by Muon, and groups of other parameters moved by AdamW.

    An update of Muon (:class:`torch.optim.Muon`; K. Jordan, "Muon: An optimizer for hidden layers in neural networks",
    2024) is made as large as one of AdamW ("Muon is Scalable for LLM Training", arXiv:2502.16982), so that both take
    the same rate. A scheduler and a checkpoint see one optimiser with the groups of both.

    Args:
        matrices: Groups of parameters with two dimensions.
        others: Groups of other parameters.
        lr: Learning rate.
        betas: Of AdamW.
    """

    def __init__(self, matrices: list[dict], others: list[dict], lr: float, betas: tuple[float, float]):
        muon = Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw")
        self.parts: tuple[Optimizer, ...] = (muon, AdamW(others, lr=lr, betas=betas))
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        self._share()

    def step(self, closure: Any = None) -> Any:
        """Move all parameters by one step."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Groups and state are the same objects in the parts."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups, part.state = list(islice(groups, len(part.param_groups))), self.state


def muon_with_adamw(
    model: PreTrainedModel, decayed: set[str], lr: float, weight_decay: float, betas: tuple[float, float]
) -> MuonWithAdamW:
    """The optimiser of a model: Muon for the weights of its linear maps, but for the vocabulary head.

    A map to one number is a vector, and belongs to AdamW like embeddings, gains and biases.

    Args:
        model: The model.
        decayed: Names of the parameters that decay; the matrices are among them.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        betas: Of AdamW.
    """
    maps = [module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D))]
    head = model.get_output_embeddings()
    matrices = {module.weight for module in maps if module is not head and min(module.weight.shape) > 1}
    if head is not None:
        matrices.discard(head.weight)  # tied to another module
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    others = [(name, parameter) for name, parameter in named if parameter not in matrices]
    return MuonWithAdamW(
        [{"params": [parameter for _, parameter in named if parameter in matrices], "weight_decay": weight_decay}],
        [
            {"params": [parameter for name, parameter in others if name in decayed], "weight_decay": weight_decay},
            {"params": [parameter for name, parameter in others if name not in decayed], "weight_decay": 0.0},
        ],
        lr,
        betas,
    )
