"""The command: run the steps one after another within a budget of time, then print the tables."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.device.steps import STEPS, Place, Step
from benchmarks.device.tables import found, tables
from benchmarks.readme import write
from tmt_geo.compare.json_file import read_json, write_json

BUDGET = 470.0  # seconds
RESULTS = Path(__file__).parents[1] / "results" / "device"


def main(argv: list[str] | None = None, steps: Mapping[str, Step] = STEPS) -> int:
    """Run the steps that are wanted.

    Returns:
        int: 1 if one has failed or was stopped.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/device"), help="where results go")
    parser.add_argument("--data", type=Path, help="a folder with the text of WikiText-2")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all steps")
    parser.add_argument("--steps", nargs="*", choices=list(steps), default=list(steps), help="only these")
    parser.add_argument("--rehearse", action="store_true", help="at toy size, on the CPU")
    parser.add_argument("--alone", choices=list(steps), help=argparse.SUPPRESS)  # one step, in this process
    parser.add_argument("--write", action="store_true", help="only put the kept results into their page")
    options = parser.parse_args(argv)
    if options.write:
        write("device", kept())
        return 0
    if options.alone:
        place = Place(options.out, options.data, options.rehearse)
        steps[options.alone].run(place, lambda rows: write_json(options.out / f"{options.alone}.json", rows))
        return 0

    options.out.mkdir(parents=True, exist_ok=True)
    begin, ends = time.monotonic(), []
    for name in options.steps:
        left = options.budget - (time.monotonic() - begin)
        ends.append(_run(name, 0.0 if options.rehearse else steps[name].seconds, left, options))
        write_json(options.out / "steps.json", ends)
        print(f"{name}: {ends[-1]['end']} after {ends[-1]['seconds']:.0f} s", flush=True)
    text = tables(ends, {name: read_json(options.out / f"{name}.json") or [] for name in options.steps})
    (options.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)
    return int(any(end["end"] not in ("done", "skipped") for end in ends))


def kept() -> str:
    """The tables of the results that are kept in the repository."""
    return found({name: read_json(RESULTS / f"{name}.json") for name in STEPS if (RESULTS / f"{name}.json").exists()})


def _run(name: str, seconds: float, left: float, options: argparse.Namespace) -> dict:
    """Run one step in a process of its own; what it prints goes into a file, whose end is shown if it fails."""
    if seconds > left:
        return {"step": name, "end": "skipped", "seconds": 0.0}
    command = [sys.executable, "-m", "benchmarks.device", "--alone", name, "--out", str(options.out)]
    command += ["--data", str(options.data)] if options.data else []
    command += ["--rehearse"] if options.rehearse else []
    begin, log = time.monotonic(), options.out / f"{name}.log"
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            end = "done" if child.wait(min(2 * seconds, left) if seconds else left) == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # with the processes it has started
            child.wait()
            end = "stopped"
    if end != "done":
        print("\n".join(log.read_text(errors="replace").splitlines()[-30:]), flush=True)
    return {"step": name, "end": end, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    sys.exit(main())
