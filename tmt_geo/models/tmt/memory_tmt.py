"""What a model remembers of the text before its input, as training and evaluation hand it from call to call."""

from __future__ import annotations

from typing import Any

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


def memory_after(config: Any, output: Any) -> Memory | None:
    """What is remembered after a forward with :func:`memory_inputs`, without its graph."""
    if getattr(config, "mesh_memory", 0):
        return output.past_key_values.last(config.mesh_memory)
    return getattr(output, "copy_memory", None)


def memory_state(memory: Memory | None) -> dict[str, Tensor]:
    """The tensors of a memory by name, each whole in a storage of its own; none where there is no memory."""
    if memory is None:
        return {}
    if isinstance(memory, CopyMemory):
        return {name: part.contiguous() for name, part in memory._asdict().items()}
    state: dict[str, Any] = {"seen": memory.seen}
    for number, layer in enumerate((*memory.layers, memory.copied)):
        state |= {f"{number}.{name}": getattr(layer, name) for name in ("keys", "values", "index")}
    return {name: part.contiguous() for name, part in state.items() if part is not None}


def memory_from_state(config: Any, state: dict[str, Tensor]) -> Memory | None:
    """The memory of a model of this configuration whose tensors :func:`memory_state` gave."""
    if not state:
        return None
    if not getattr(config, "mesh_memory", 0):
        return CopyMemory(**state)
    memory = TMTCache(config.num_hidden_layers)
    memory.seen = state["seen"]
    for number, layer in enumerate((*memory.layers, memory.copied)):
        for name in ("keys", "values", "index"):
            setattr(layer, name, state.get(f"{number}.{name}"))
        layer.is_initialized, layer.length = layer.keys is not None, memory.seen.size(1)
    return memory
