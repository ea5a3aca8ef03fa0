"""Our language model as large as another."""

from __future__ import annotations

from typing import Any

import torch

from tmt_geo.evaluate.match_width import linear_count, match_width
from tmt_geo.models import TMTConfig, TMTModel

TOLERANCE = 0.01


def fit_tmt(options: dict[str, Any], params: int | None) -> TMTModel:
    """An untrained model of these options, its feed-forward network as wide as so many parameters need.

    Args:
        options: Of its configuration.
        params: Parameters wanted, shared weights counted once; None leaves the width as it is.

    Raises:
        ValueError: If no width comes within 1 %.
    """
    if params is None:
        return TMTModel(TMTConfig(**options))
    name = "ffn_stream_dim" if TMTConfig(**options).dual_stream else "intermediate_size"
    count = linear_count(lambda width: tmt_params(options | {name: width}))
    width = match_width(count, params)
    if abs(count(width) - params) > TOLERANCE * params:
        raise ValueError(f"'{name}' cannot bring the model within 1 % of {params} parameters (got {count(width)})")
    return TMTModel(TMTConfig(**options | {name: width}))


def tmt_params(options: dict[str, Any]) -> int:
    """Parameters of the model of these options, shared weights counted once."""
    with torch.device("meta"):
        return TMTModel(TMTConfig(**options)).num_parameters()
