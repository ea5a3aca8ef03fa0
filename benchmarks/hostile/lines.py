"""Command lines that are wrong in one place."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from benchmarks.hostile.runs import Call, Trial
from tmt_geo.cli import app

VAST = ("1000000000000", "9" * 30, "inf")
WORDS = ("x", "", "1e400", "\u00b2", "0x10")
# What a flag of a type cannot be, whatever it means.
WRONG = {int: ("1.5", "nan", "-1", *WORDS, *VAST[:2]), float: ("nan", "-1", "x", "", "1,5", *VAST[::2])}
# Flags of which any number is meant: as many as there are will be used, or time and money are the user's.
OPEN = ("--limit", "--max-grad-norm", "--weight-decay", "--warmup", "--learning-rate", "--batch-size", "--jobs")
PATHS = {
    "--data": ("MISSING.txt", "BINARY", "EMPTY", "FOLDER", "MISSING/train.txt", ""),
    "--config": ("MISSING", "FOLDER", "BINARY", "NESTED", "LIST", "UNKNOWN", "WORDS", "LATIN"),
    "--tokenizer": ("MISSING", "FOLDER", "BINARY"),
    "--out": ("BINARY", "BINARY/below", "FULL"),
    "--json": ("FOLDER", "MISSING/figures.json", "BINARY"),
    "--preset": ("huge", "", "Small"),
    "--decay": ("linear", ""),
    "--exit-rule": ("never", ""),
    "--optimizer": ("sgd", ""),
    "--report-to": ("paper", "7"),
    "--split": ("train", ""),
    "--size": ("enormous", ""),
    "--row": ("no such row",),
    "--problem": ("no such problem",),
    "--model": ("MISSING", "EMPTY", "FOLDER"),
    "--runs": ("BINARY",),  # a folder may come to be while the page is open
    "--host": ("no.such.host.invalid", "999.1.1.1", ""),
}
BASES = {
    "train": (
        "--data",
        "TEXT",
        "--vocab-size",
        "300",
        "--out",
        "NEW",
        "--steps",
        "1",
        "--max-seq-len",
        "32",
        "--d-model",
        "16",
        "--n-layers",
        "1",
        "--n-heads",
        "2",
        "--report-to",
        "none",
        "--save-every",
        "0",
    ),
    "evaluate": ("RUN",),
    "generate": ("RUN", "the fox", "--sample"),
    "inspect": ("the fox", "--model", "RUN", "--out", "NEW"),
    "web": ("--no-open", "--runs", "RUNS"),
    "compare": ("edges", "--quick", "--out", "NEW", "--problem", "csl"),
    "demo": ("--out", "NEW", "--steps", "1"),
}
WHOLE = (
    ("train", "--resume", "--out", "MISSING"),
    ("train", "--resume", "--overwrite"),
    ("train", "too", "much"),
    ("generate",),
    ("generate", "RUN"),
    ("generate", "MISSING", "the"),
    ("generate", "BINARY", "the"),
    ("generate", "FOLDER", "the"),
    ("generate", "RUN", "the", "--top-k", "3"),
    ("generate", "RUN", "the", "--temperature", "1"),
    ("generate", "RUN", "the", "--sample", "--top-p", "2"),
    ("generate", "RUN", "the", "--sample", "--top-p", "0"),
    ("generate", "RUN", "the", "--sample", "--temperature", "0"),
    ("generate", "RUN", "the", "--repetition-penalty", "0"),
    ("generate", "RUN", "the", "--max-new-tokens", "100"),
    ("generate", "RUN", "the " * 100),
    ("generate", "RUN", "\ud83e"),
    ("evaluate",),
    ("evaluate", "MISSING"),
    ("evaluate", "BINARY"),
    ("evaluate", "RUN", "--context", "64"),
    ("evaluate", "RUN", "--context", "1"),
    ("evaluate", "RUN", "--stride", "33"),
    ("inspect", "the"),
    ("inspect",),
    ("inspect", "", "--model", "RUN", "--out", "NEW"),
    ("inspect", "the " * 100, "--model", "RUN", "--out", "NEW"),
    ("compare",),
    ("compare", "nothing"),
    ("compare", "edges", "--steps", "3"),
    ("compare", "ablation", "--quick"),
    ("compare", "ablation", "--problem", "csl"),
    ("compare", "ablation", "--data", "MISSING", "--out", "NEW"),
    ("compare", "recall", "--size", "tiny"),
    ("nothing",),
    ("train", "--nothing"),
    ("demo", "--steps", "0"),
    ("demo", "--data", "MISSING.txt", "--out", "NEW"),
    ("demo", "--out", "FULL"),
    ("demo", "--out", "FULL", "--overwrite"),
    ("train", "--d-model", "17", "--n-heads", "2"),
    ("train", "--d-model", "1000000"),
    ("train", "--block-size", "9999"),
    ("train", "--exit-budget", "2"),
    ("train", "--exit-threshold", "nan"),
    ("train", "--dropout", "1"),
)


def files(place: Path, run: Path) -> dict[str, str]:
    """The files and folders that the lines name, made in a folder."""
    contents: dict[str, Any] = {
        "BINARY": b"\xff\xfe\x00\x9c" * 50,
        "EMPTY": b"",
        "NESTED": b"batch_size: {a: {b: [1, 2]}}\n",
        "LIST": b"- 1\n- 2\n",
        "UNKNOWN": b"nothing: 1\n",
        "WORDS": b"batch_size: many\n",
        "LATIN": "data: \u00e9t\u00e9\n".encode("latin-1"),
    }
    place.mkdir(exist_ok=True)
    for name, content in contents.items():
        (place / name).write_bytes(content)
    for name in ("FOLDER", "FULL"):
        (place / name).mkdir(exist_ok=True)
    (place / "FULL" / "mine").write_text("mine")
    known = {name: str(place / name) for name in (*contents, "FOLDER", "FULL", "MISSING", "NEW")}
    return known | {"RUNS": str(run.parent), "RUN": str(run), "TEXT": str(run.parent / "foxes.txt")}


def bad_lines() -> list[tuple[str, ...]]:
    """All of them, with names in place of files."""
    found = list(WHOLE)
    known: Any = typer.main.get_command(app)
    for command, base in BASES.items():
        types = get_type_hints(known.commands[command].callback)
        for option in known.commands[command].params:
            flag = option.opts[0]
            if flag in PATHS:
                values = PATHS[flag][
                    : 2 if (command, flag) == ("compare", "--out") else None
                ]  # it goes on in its folder
            elif flag.startswith("--") and (kind := _number(types.get(option.name))):
                values = tuple(value for value in WRONG[kind] if flag not in OPEN or value not in VAST)
            else:
                continue
            found += [(command, *base, flag, value) for value in values]
    return found


def _number(hint: Any) -> type | None:
    """Whether an option is an integer or a float, one of them or none."""
    parts = {hint, *get_args(hint), *(part for inner in get_args(hint) for part in get_args(inner))}
    return next((kind for kind in (int, float) if kind in parts), None)


def try_lines(run: Path, place: Path, call: Call, count: int, seed: int) -> Iterator[Trial]:
    """Call so many bad command lines, drawn from all.

    Args:
        run: A trained run.
        place: A folder for files that the lines name.
        call: Calls the command.
        count: How many.
        seed: Of the choice.
    """
    known = files(place, run)
    for line in random.Random(seed).sample(bad_lines(), count):
        outcome = call([_filled(part, known) for part in line])
        yield Trial(" ".join(line[:1] + line[-3:])[:80], outcome, outcome.fault())


def _filled(part: str, known: dict[str, str]) -> str:
    name = next(
        (name for name in sorted(known, key=len, reverse=True) if part.split("/")[0].split(".")[0] == name), None
    )
    return part if name is None else known[name] + part[len(name) :]
