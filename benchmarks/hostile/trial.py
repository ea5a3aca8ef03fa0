"""One command tried on bad input: what it left, and whether that is a refusal in one line."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from tmt_geo.cli import app

SECONDS = 60  # of a busy machine; what takes so long hangs
MEMORY = 6 << 30  # bytes of addresses beyond what the imports have
NAMED = re.compile(r"^tmt-geo: error: .*('[\w-]+'|--[\w-]+|\b[A-Z]{3,}\b|extra argument)")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        code: Its exit code; negative where a signal ended it, None where it took too long.
        out: What it printed.
        err: What it printed on standard error.
    """

    code: int | None
    out: str
    err: str

    def fault(self, expected: str | None = None) -> str | None:
        """What is wrong with it, None where it is one line that refuses, or prints what is expected."""
        if self.code is None:
            return "hang"
        if self.code < 0:
            return f"crash by signal {-self.code}"
        if self.code == 0:
            return None if expected is not None and _same(self.out, expected) else "silent other output"
        if self.code != 2:
            return f"exit code {self.code}: {last_line(self.err)}"
        lines = self.err.strip().splitlines()
        if len(lines) != 1:
            return f"{len(lines)} lines: {self.err[:300]!r}"
        return None if NAMED.match(lines[0]) else f"names nothing: {lines[0]}"


def _same(out: str, expected: str) -> bool:
    """Whether the figures are the same, the time aside, or belong to a text that the first line names."""
    lines, others = ([line for line in text.splitlines() if "second" not in line] for text in (out, expected))
    return lines == others or (" part of " in out and lines[0] != others[0])


def last_line(text: str) -> str:
    """The last line of a text that has one."""
    return (text.strip().splitlines() or [""])[-1][:300]


def call_here(arguments: Sequence[str]) -> Outcome:
    """Call the command in this process."""
    with time_limit(SECONDS):
        result = CliRunner().invoke(app, list(arguments))
    unforeseen = result.exception is not None and not isinstance(result.exception, SystemExit)
    if isinstance(result.exception, TimeoutError):
        return Outcome(None, result.stdout, result.stderr)
    return Outcome(result.exit_code, result.stdout, result.stderr + (repr(result.exception) if unforeseen else ""))


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise a `TimeoutError` in what takes longer."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call_apart(arguments: Sequence[str], folder: Path) -> Outcome:
    """Call the command in a process of its own, with limits of time and memory; `folder` takes what it prints."""
    process = _processes().Process(target=_call, args=(list(arguments), folder))
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    printed = [(folder / name).read_text(encoding="utf-8", errors="replace") for name in ("stdout", "stderr")]
    return Outcome(code, *printed)


def _call(arguments: list[str], folder: Path) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):  # what libraries in C print too
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w", encoding="utf-8"), open(2, "w", encoding="utf-8")  # noqa: SIM115
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + MEMORY, addresses + MEMORY))
    torch.set_num_threads(1)
    app(arguments)


def _processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.hostile.preloaded"])
    return context
