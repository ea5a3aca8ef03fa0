"""What the recurrence of a state-space model costs, which is no matrix product."""

from __future__ import annotations

from transformers import PreTrainedConfig


def scan_flops(config: PreTrainedConfig) -> float:
    """Operations a token that ``torch.utils.flop_counter`` does not see in a Mamba's scan; 0 for other models.

    With ``a = exp(dt * A)`` and ``b = dt * B * u``, the state of each channel follows ``h = a * h + b``: five
    operations (four products, one sum) for each entry of the state in each layer. The exponential is left out, as
    element-wise work is everywhere; the read-out ``C h`` is a matrix product and counted as such. Mamba2 computes its
    scan by matrix products, and the recurrence of RWKV, some ten operations a channel, is below 1 % of its layers from
    128 channels on.
    """
    if config.model_type != "mamba":
        return 0.0
    return 5.0 * config.num_hidden_layers * config.intermediate_size * config.state_size
