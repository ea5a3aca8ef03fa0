"""Calls of the public names with one argument that is none."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

import tmt_geo
from benchmarks.hostile.runs import Trial
from benchmarks.hostile.trial import Outcome, time_limit

SECONDS = 20
FLOW = "source_to_target"
REAL = ("time", "lag", "attention_mask")  # arguments that are numbers of any type
UNREAD = ("table",)  # one whose entries nobody looks at until they are used
ROWS = ("DualStreamFFN()", "ExitGate()", "MemoryAnchors()", "MeshIndex()")  # inputs (*, F)
N, F = 6, 8
TINY = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "graph_k": 2,
    "window": 2,
}


@dataclass(frozen=True)
class Call:
    """A legal call.

    Args:
        name: What is called.
        function: It.
        arguments: Its arguments by name.
    """

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]


def legal_calls() -> list[Call]:
    """One of each public name that takes arguments, and of the forward of each module."""
    torch.manual_seed(0)
    x, time, batch = torch.randn(N, F), torch.arange(N), torch.tensor([0, 0, 0, 1, 1, 1])
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 2, 4, 5]])
    ids = torch.randint(11, (2, 5))
    graph = Data(x=x, edge_index=edges, time=time)
    edge_attr = torch.randn(5, 4)
    made: dict[str, dict[str, Any]] = {
        "MeshAttention": {
            "in_channels": F,
            "out_channels": 4,
            "heads": 2,
            "dropout": 0.0,
            "decay": "log",
            "concat": True,
        },
        "DynamicMeshAttention": {
            "in_channels": F,
            "out_channels": 4,
            "k": 2,
            "causal": False,
            "metric": "cosine",
            "heads": 2,
        },
        "TemporalDecay": {"heads": 2, "form": "log", "rate": 1.0},
        "ExitGate": {"channels": F, "rule": "budget", "rate": 0.5, "momentum": 0.5},
        "DualStreamFFN": {"channels": F, "stream_dim": 4, "dropout": 0.1, "gated": False},
        "MemoryAnchors": {"channels": F, "num_anchors": 2, "momentum": 0.9},
        "MeshIndex": {"channels": F, "dim": 4},
        "TMTLayer": {
            "channels": F,
            "heads": 2,
            "k": 2,
            "window": 2,
            "causal": True,
            "backend": "auto",
            "index_dim": 4,
            "dropout": 0.1,
            "eps": 1e-5,
        },
        "EdgeAttention": {
            "in_channels": F,
            "out_channels": F,
            "heads": 2,
            "form": "factored",
            "null_slot": True,
            "causal": False,
        },
        "QuarticLayer": {
            "channels": F,
            "edge_channels": 4,
            "heads": 2,
            "forms": ["factored"],
            "dropout": 0.1,
            "causal": False,
        },
        "MeshGNN": {
            "in_channels": F,
            "hidden_channels": F,
            "num_layers": 2,
            "out_channels": 3,
            "dropout": 0.1,
            "k": 2,
            "metric": "cosine",
            "causal": False,
        },
        "TMTEncoder": {
            "in_channels": F,
            "hidden_channels": F,
            "num_layers": 2,
            "out_channels": 3,
            "causal": True,
            "exit_rule": "budget",
            "exit_budget": 0.5,
            "exit_momentum": 0.5,
            "exit_after": 1,
            "rebuild_every": 1,
        },
        "QuarticGNN": {
            "in_channels": F,
            "hidden_channels": F,
            "num_layers": 2,
            "out_channels": 3,
            "dropout": 0.1,
            "edge_channels": 4,
            "k": 2,
            "temperature": 1.0,
            "warmup": 1,
            "rebuild_every": 1,
        },
        "AddMesh": {"k": 2, "window": 0, "causal": False, "metric": "cosine", "replace": True, "backend": "auto"},
        "EventGraph": {"num_recent": 2},
        "QuarticTransformer": {
            "num_tokens": 11,
            "dim": 8,
            "depth": 1,
            "heads": 2,
            "dim_head": 4,
            "dim_edges": 4,
            "dropout": 0.1,
            "max_seq_len": 16,
            "causal": True,
            "ff_mult": 2,
        },
        "RelationalTransformer": {
            "num_tokens": 11,
            "dim": 8,
            "depth": 1,
            "heads": 2,
            "dim_head": 4,
            "dropout": 0.1,
            "max_seq_len": 16,
            "ff_mult": 2,
        },
        "MultiStreamTransformer": {
            "dim": 8,
            "num_tokens": 11,
            "depth": 1,
            "num_streams": 2,
            "dim_head": 4,
            "heads": 2,
            "max_seq_len": 16,
            "attn_dropout": 0.1,
        },
        "TMTConfig": {
            **TINY,
            "dropout": 0.1,
            "exit_budget": 0.5,
            "memory_anchors": 2,
            "copy_k": 2,
            "decay_rate": 64.0,
            "exit_momentum": 0.5,
            "memory_momentum": 0.9,
            "search": "auto",
            "decay": "log",
            "exit_rule": "budget",
            "exit_after": 1,
            "mesh": True,
            "exit": True,
            "copy_dim": 8,
            "initializer_range": 0.02,
        },
        "QuarticConfig": {
            "vocab_size": 11,
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "head_dim": 4,
            "edge_size": 4,
            "ff_mult": 2,
            "dropout": 0.1,
            "edge_forms": ["linear"],
        },
    }
    calls = [Call(name, getattr(tmt_geo, name), arguments) for name, arguments in made.items()]
    calls += [
        Call(
            "knn_graph",
            tmt_geo.knn_graph,
            {
                "x": x,
                "k": 2,
                "batch": batch,
                "loop": False,
                "time": time,
                "causal": True,
                "metric": "cosine",
                "backend": "auto",
                "skip": 0,
                "flow": FLOW,
            },
        ),
        Call("Mesh", tmt_geo.Mesh, {"table": edges.t(), "mask": edges.t() > 0, "num_nodes": 5, "flow": FLOW}),
        Call("temporal_graph", tmt_geo.temporal_graph, {"num_nodes": N, "window": 2, "batch": batch, "time": time}),
        Call("set_compile", tmt_geo.set_compile, {"mode": "never", "after": 3}),
    ]
    inputs: dict[str, dict[str, Any]] = {
        "MeshAttention": {"x": x, "edge_index": edges, "time": time},
        "DynamicMeshAttention": {"x": x, "batch": batch},
        "TemporalDecay": {"lag": torch.rand(5)},
        "ExitGate": {"x": x},
        "DualStreamFFN": {"x": x},
        "MemoryAnchors": {"x": x},
        "MeshIndex": {"x": x},
        "TMTLayer": {"x": x, "batch": batch, "time": time},
        "EdgeAttention": {"edge_attr": torch.randn(5, F), "edge_index": edges, "num_nodes": N, "batch": batch},
        "QuarticLayer": {"x": x, "edge_index": edges, "edge_attr": edge_attr, "batch": batch},
        "MeshGNN": {"x": x, "edge_index": edges, "batch": batch},
        "TMTEncoder": {"x": x, "batch": batch, "time": time},
        "QuarticGNN": {"x": x, "edge_index": edges, "batch": batch},
        "AddMesh": {"data": graph},
        "EventGraph": {"data": Data(x=x, edge_index=edges, time=time[:5])},
        "QuarticTransformer": {"x": ids},
        "RelationalTransformer": {"x": ids},
        "MultiStreamTransformer": {"x": ids},
    }
    for name, given in inputs.items():
        module = getattr(tmt_geo, name)(**made[name])
        calls.append(Call(f"{name}()", module.eval() if isinstance(module, torch.nn.Module) else module, given))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name, config in {"TMTModel": tmt_geo.TMTConfig, "QuarticModel": tmt_geo.QuarticConfig}.items():
        sizes = TINY if name == "TMTModel" else made["QuarticConfig"]
        calls.append(Call(f"{name}()", getattr(tmt_geo, name)(config(**sizes)).eval(), given | {"labels": ids}))
    return [*calls, Call("TMTBackbone()", tmt_geo.TMTBackbone(tmt_geo.TMTConfig(**TINY)).eval(), given)]


def illegal_values(value: Any) -> list[Any]:
    """What an argument cannot be, by a value that it can have."""
    if isinstance(value, bool):
        return ["yes", 7, math.nan, [], object()]
    if isinstance(value, int):
        return [-1, 2**62, 10**30, 1.5, math.nan, math.inf, "x", "", [2], {}, object(), torch.ones(3)]
    if isinstance(value, float):
        return [-1.0, math.nan, math.inf, 1e308, "x", [0.1], None, object(), torch.ones(3)]
    if isinstance(value, str):
        return ["no such", "", 7, 1.5, [value], object()]
    if isinstance(value, Tensor):
        wrong = [
            "x",
            7,
            1.5,
            object(),
            value.tolist(),
            value.unsqueeze(0).unsqueeze(0),
            value[:-1],
            value.to(torch.complex64),
        ]
        wrong += [value.bool() if value.is_floating_point() else value + 0.5, value.new_zeros(())]
        return wrong if value.is_floating_point() or value.dtype == torch.bool else [*wrong, value - 2**40]
    return ["x", 7, 1.5, object(), [value]]


def is_legal(call: Call, name: str, value: Any) -> bool:
    """Whether a call takes this value of an argument too."""
    given = call.arguments[name]
    if not isinstance(value, Tensor):
        return (name == "in_channels" and value == -1) or (name == "after" and value in (1.5, 2**62, 10**30))
    if not isinstance(given, Tensor):
        return False
    if value.is_complex():
        return False
    if value.dtype != given.dtype:
        return name in REAL or (call.name, name) == ("knn_graph", "x")
    if value.shape == given.shape:
        return name in (*REAL, *UNREAD)
    if value.dim() != given.dim():
        return name == "lag" or (call.name in ROWS and value.dim() > 0)
    return sum(isinstance(part, Tensor) for part in call.arguments.values()) == 1  # any number of rows


def illegal_calls() -> list[tuple[Call, dict[str, Any]]]:
    """Every legal call with one argument changed."""
    return [
        (call, {name: value})
        for call in legal_calls()
        for name, given in call.arguments.items()
        for value in illegal_values(given)
        if not is_legal(call, name, value)
    ]


def try_calls(count: int, seed: int) -> Iterator[Trial]:
    """Make so many illegal calls.

    Args:
        count: How many; of more than there are, two arguments are changed at once.
        seed: Of the choice.
    """
    draw, known = random.Random(seed), illegal_calls()
    draw.shuffle(known)
    while count > len(known):
        call, change = draw.choice(known)
        others = [other for each, other in known if each.name == call.name and other.keys() != change.keys()]
        known.append((call, change | draw.choice(others or [change])))
    for call, change in known[:count]:
        yield try_call(call, change)


def try_call(call: Call, change: dict[str, Any]) -> Trial:
    """Make a legal call with these arguments changed."""
    fault, code = None, 2
    try:
        with time_limit(SECONDS), torch.no_grad():
            call.function(**call.arguments | change)
        code, fault = 0, "accepted"
    except (ValueError, TypeError) as error:
        if not any(re.search(rf"\b{name}\b", str(error)) for name in _names(call, change)):
            fault = f"{type(error).__name__} that names nothing: {str(error)[:160]!r}"
    except Exception as error:
        fault = f"{type(error).__name__}: {str(error)[:160]!r}"
    shown = ", ".join(f"{name}={_shown(value)}" for name, value in change.items())
    return Trial(
        f"{call.name.removesuffix('()')}{'.forward' if '()' in call.name else ''}({shown})",
        Outcome(code, "", ""),
        fault,
    )


def _names(call: Call, change: dict[str, Any]) -> set[str]:
    """The names of the arguments, those by which a configuration knows them, and those whose size they contradict."""
    configs = (tmt_geo.TMTConfig, tmt_geo.QuarticConfig)
    aliases = {alias for config in configs for alias, name in config.attribute_map.items() if name in change}
    if any(isinstance(value, Tensor) for value in change.values()):
        aliases |= {name for name, given in call.arguments.items() if isinstance(given, Tensor)}
    return {*change, *aliases}


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    return "object()" if type(value) is object else repr(value)[:40]
