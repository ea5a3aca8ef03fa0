"""What a model remembers of the text before its input, as training and evaluation hand it from call to call."""

from __future__ import annotations

from typing import Any

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
