"""What a model remembers of the text before its input, as training and evaluation hand it from call to call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tmt_geo.models.tmt.cache_tmt import TMTCache
from tmt_geo.nn.copy_head import CopyMemory

Memory = CopyMemory | TMTCache


def remembered_tokens(config: Any) -> int:
    """The tokens of the text before its input that a model of this configuration makes use of; 0 for any other."""
    copied = config.copy_memory if getattr(config, "copy_k", 0) else 0
    return getattr(config, "mesh_memory", 0) or copied


def memory_inputs(config: Any, memory: Memory | None) -> dict[str, Any]:
    """The arguments with which a forward goes on from what is remembered, None at the beginning of a text."""
    if getattr(config, "mesh_memory", 0):
        return {"past_key_values": memory, "use_cache": True}
    return {} if memory is None else {"copy_memory": memory}


def memory_after(config: Any, output: Any, dropped: int = 0) -> Memory | None:
    """What is remembered after a forward with :func:`memory_inputs`, without its graph.

    Args:
        config: Of the model.
        output: Of its forward.
        dropped (int): The latest tokens that are forgotten because the next forward reads them again.
    """
    if getattr(config, "mesh_memory", 0):
        return output.past_key_values.remember(config.mesh_memory, config.carried, config.far_layers, dropped)
    memory = getattr(output, "copy_memory", None)
    return memory.drop_last(dropped) if dropped and memory is not None else memory


def memory_state(memory: Memory | None) -> dict[str, Tensor]:
    """The tensors of a memory by name, each whole in a storage of its own; none where there is no memory."""
    if memory is None:
        return {}
    state = memory.state() if isinstance(memory, TMTCache) else memory._asdict()
    return {name: part.clone(memory_format=torch.contiguous_format) for name, part in state.items()}


def memory_from_state(config: Any, state: dict[str, Tensor]) -> Memory | None:
    """The memory of a model of this configuration whose tensors :func:`memory_state` gave."""
    if not state:
        return None
    if not getattr(config, "mesh_memory", 0):
        return CopyMemory(**state)
    return TMTCache.from_state(config.num_hidden_layers, state)


@torch.no_grad()
def read_text(model: Any, input_ids: Tensor) -> TMTCache:
    """Read the text before a prompt, in sequences of the longest that the model was trained on.

    Args:
        model: A :class:`~tmt_geo.TMTModel` with `mesh_memory`.
        input_ids (Tensor): Tokens, (B, S).

    Returns:
        TMTCache: What it remembers, for ``generate`` as `past_key_values`. Its ``get_seq_length()`` is how many of the
        last tokens of this text have to stand before the prompt.

    Raises:
        ValueError: If the model has no `mesh_memory`.
    """
    if not getattr(model.config, "mesh_memory", 0):
        raise ValueError("'model' must have a mesh memory (got mesh_memory=0)")
    memory: Any = None
    for part in input_ids.split(model.config.max_position_embeddings, dim=1):
        output = model(input_ids=part, logits_to_keep=1, **memory_inputs(model.config, memory))
        memory = memory_after(model.config, output)
    return memory
