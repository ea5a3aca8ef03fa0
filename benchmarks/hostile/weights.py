"""Ways to damage a file of weights so that it is still one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def _name(tensors: Tensors, draw: random.Random) -> str:
    return draw.choice(
        [name for name in sorted(tensors) if tensors[name].is_floating_point() and tensors[name].numel() > 1]
    )


def not_numbers(tensors: Tensors, draw: random.Random) -> None:
    """One entry is no number, or infinite."""
    tensors[_name(tensors, draw)].view(-1)[0] = draw.choice([torch.nan, torch.inf, -torch.inf])


def all_nan(tensors: Tensors, draw: random.Random) -> None:
    """A tensor has no number."""
    tensors[_name(tensors, draw)].fill_(torch.nan)


def missing(tensors: Tensors, draw: random.Random) -> None:
    """A tensor is not there."""
    del tensors[_name(tensors, draw)]


def extra(tensors: Tensors, draw: random.Random) -> None:
    """There is one more, as of a layer that the configuration does not have."""
    name = draw.choice(["model.layers.2.ffn.weight", "stranger", "lm_head.weight"])
    tensors[name] = torch.zeros(draw.choice([1, 16]), 16)


def another_layer(tensors: Tensors, draw: random.Random) -> None:
    """There is a third layer, which the configuration does not know."""
    tensors |= {
        name.replace("layers.1.", "layers.2."): part.clone() for name, part in tensors.items() if "layers.1." in name
    }


def fewer_layers(tensors: Tensors, draw: random.Random) -> None:
    """The second layer is not there."""
    for name in [name for name in tensors if "layers.1." in name]:
        del tensors[name]


def other_type(tensors: Tensors, draw: random.Random) -> None:
    """A tensor has another type."""
    name = _name(tensors, draw)
    tensors[name] = tensors[name].to(
        draw.choice([torch.int64, torch.bool, torch.float64, torch.complex64, torch.uint8])
    )


def other_shape(tensors: Tensors, draw: random.Random) -> None:
    """A tensor has another shape."""
    name = _name(tensors, draw)
    part = tensors[name]
    tensors[name] = draw.choice(
        [part.flatten(), part[:-1], part.unsqueeze(0), part.new_zeros(0), part.repeat(2, *[1] * (part.dim() - 1))]
    )


def swapped(tensors: Tensors, draw: random.Random) -> None:
    """Two tensors of one shape have changed places."""
    first = _name(tensors, draw)
    alike = [name for name in tensors if name != first and tensors[name].shape == tensors[first].shape]
    second = draw.choice(alike or [first])
    tensors[first], tensors[second] = tensors[second].clone() + 1e-3, tensors[first].clone()


def scaled(tensors: Tensors, draw: random.Random) -> None:
    """A tensor is larger."""
    tensors[_name(tensors, draw)].mul_(draw.choice([1.5, 1e30, -1.0]))


def renamed(tensors: Tensors, draw: random.Random) -> None:
    """A tensor has another name."""
    tensors["Ω.weight"] = tensors.pop(_name(tensors, draw))


IN_TENSORS: tuple[Callable[[Tensors, random.Random], None], ...] = (
    not_numbers,
    all_nan,
    missing,
    extra,
    another_layer,
    fewer_layers,
    other_type,
    other_shape,
    swapped,
    scaled,
    renamed,
)
# Those that can be told without a record of what was written.
TELLING = IN_TENSORS[:8] + (renamed,)


def changed(path: Path, change: Callable[[Tensors, random.Random], None], draw: random.Random) -> None:
    """Change the tensors of a file."""
    tensors = load_file(path)
    change(tensors, draw)
    save_file({name: part.contiguous() for name, part in tensors.items()}, path, metadata={"format": "pt"})


def header(path: Path, draw: random.Random) -> None:
    """The header says something else than what is there."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    known = json.loads(content[8 : 8 + size])
    name = draw.choice([name for name in known if name != "__metadata__"])
    known[name][draw.choice(["shape", "data_offsets", "dtype"])] = draw.choice(
        [[0, 10**12], [-1, 4], "F8_E4M3", "STRING", None, [2**63, 2]]
    )
    text = json.dumps(known).encode()
    path.write_bytes(draw.choice([len(text), 10**15]).to_bytes(8, "little") + text + content[8 + size :])


def index_elsewhere(folder: Path, draw: random.Random) -> None:
    """The weights are shards, of which the list names files that are not there or are not in the folder."""
    weights = folder / "model.safetensors"
    names = list(load_file(weights))
    weights.rename(folder.parent / "outside.safetensors")
    place = draw.choice(["../outside.safetensors", "nothing.safetensors", "/dev/zero", 7])
    index = {"metadata": {"total_size": 10**15}, "weight_map": dict.fromkeys(names, place)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
