"""Ways to damage a file, whatever is in it."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Damage = Callable[[Path, random.Random], None]

# What stands where a number, a name or a list should.
VALUES: tuple[Any, ...] = (
    10**8,
    10**12,
    2**63,
    -1,
    -(2**63),
    0,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "3",
    "Ω\u202e\U0001f9ff",
    "",
    [],
    [1, 2],
    {},
    {"a": 1},
)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.command = f"touch {mark}"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def mark_of(folder: Path) -> Path:
    """The file that code in a folder writes when it is run."""
    return folder.parent / "executed"


def code_of(folder: Path) -> str:
    """A module that writes that file when it is imported."""
    return f"open({str(mark_of(folder))!r}, 'w').close()\nfrom tmt_geo.models import TMTConfig, TMTForCausalLM\n"


def truncated(path: Path, draw: random.Random) -> None:
    """Cut off the end."""
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def flipped(path: Path, draw: random.Random) -> None:
    """Change some bytes."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 20])):
        content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
    path.write_bytes(bytes(content))


def rubbish(path: Path, draw: random.Random) -> None:
    """Write bytes that mean nothing."""
    path.write_bytes(
        draw.choice([b"", b"\xff\xfe\xfa", b"\x00" * 64, b"[" * 100_000, draw.randbytes(500), b"null", b"[]", b"7"])
    )


def no_file(path: Path, draw: random.Random) -> None:
    """Put something else than a file there, or nothing."""
    path.unlink()
    kind = draw.choice(["folder", "pipe", "loop", "dangling", "endless", "missing"])
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to({"loop": path, "dangling": path.parent / "nothing", "endless": Path("/dev/zero")}[kind])


def pickled_code(path: Path, draw: random.Random) -> None:
    """Put a pickle there that writes a file when it is loaded."""
    canary = Canary(mark_of(path.parent if "checkpoint-" not in path.parent.name else path.parent.parent))
    if draw.random() < 0.5:
        torch.save({"state": canary, "param_groups": canary}, path)
    else:
        path.write_bytes(pickle.dumps(canary))


def linked(path: Path, draw: random.Random) -> None:
    """Move the file elsewhere and point to it: nothing else has changed."""
    elsewhere = path.parent / f"moved_{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def other_value(path: Path, draw: random.Random) -> None:
    """Change a value of a JSON file, at the top or one below it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content
    if isinstance(content, list):
        place = content[draw.randrange(len(content))]
    name = draw.choice(sorted(place))
    if isinstance(place[name], (dict, list)) and place[name] and draw.random() < 0.6:
        place, name = place[name], draw.choice(sorted(place[name]) if isinstance(place[name], dict) else [0])
    place[name] = draw.choice(VALUES)
    path.write_text(json.dumps(content), encoding="utf-8")


def without_value(path: Path, draw: random.Random) -> None:
    """Take a value out of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content[draw.choice(sorted(content) if isinstance(content, dict) else range(len(content)))]
    path.write_text(json.dumps(content), encoding="utf-8")


ANY_FILE = (truncated, flipped, rubbish, no_file, pickled_code)
