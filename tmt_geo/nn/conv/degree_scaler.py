"""Scales for what a node has aggregated, by the number of its edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tmt_geo.ops.checks import check_choices

SCALERS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "amplification": lambda degree: (degree + 1).log2(),
    "attenuation": lambda degree: 1 / (degree.clamp(min=1) + 1).log2(),
    "linear": lambda degree: degree,
    "inverse_linear": lambda degree: 1 / degree.clamp(min=1),
}


class DegreeScaler:
    r"""Scales for heads whose weights sum to one, so that what they give does not tell how many edges there are.

    The scalers are those of Principal Neighbourhood Aggregation (Corso et al., 2020, arXiv:2004.05718), as
    :class:`torch_geometric.nn.aggr.DegreeScalerAggregation` has them where the nodes to train on have one edge each:
    one edge has a scale of one. For :math:`d` edges, self-loop included, ``"identity"`` is 1, ``"amplification"``
    :math:`\log_2(d + 1)`, ``"attenuation"`` one over that, ``"linear"`` :math:`d` and ``"inverse_linear"``
    :math:`1 / d`; no edges count as one in a denominator. ``"linear"`` makes a mean a sum and preserves cardinality
    (Zhang and Xie, 2019, arXiv:1907.02204, the model f-Scaled).

    Args:
        scaler (str or [str]): The name of one for all heads, or of one for each head.
        heads (int): The number of heads :math:`H`.

    Raises:
        ValueError: If a name is unknown, or there are neither one nor `heads` of them.
    """

    def __init__(self, scaler: str | Sequence[str], heads: int):
        names = [scaler] if isinstance(scaler, str) else scaler
        check_choices("scaler", names, SCALERS)
        if not isinstance(scaler, str) and len(scaler) != heads:
            raise ValueError(f"'scaler' must name one for all heads or one for each, {heads} (got {scaler!r})")
        self.names = tuple(names)

    def __call__(self, out: Tensor, degree: Tensor) -> Tensor:
        """Scale the outputs of the heads :math:`(T, H, C)` of targets with so many edges :math:`(T)`."""
        degree = degree.to(torch.promote_types(out.dtype, torch.float32))
        scale = torch.stack([SCALERS[name](degree) for name in self.names], dim=1)  # [T, 1] or [T, H]
        return out * scale.unsqueeze(2).to(out.dtype)
