"""Do tampered folders, bad command lines and illegal calls end in one line that names what is wrong?

    python -m benchmarks.hostile                       300 folders, 20 resumes, 250 lines, 2,500 calls
    python -m benchmarks.hostile --folders 5 --resumes 0 --lines 0 --calls 0 --seed 1

A small run is trained. Copies of it are tampered with and used, or resumed. A command has to print what it prints for
the run that nobody touched, or refuse in one line with exit code 2 that names the argument; no code of a folder may be
run. Each command is a process of its own, with limits of time and memory, forked from one that has all imported.
The faults, and how many were tried, are written into the folder --out, a file a kind; a kind of which none is tried
keeps its file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile.calls import try_calls
from benchmarks.hostile.lines import try_lines
from benchmarks.hostile.resumes import try_resumes
from benchmarks.hostile.runs import Trial, train_run, try_folders
from benchmarks.hostile.trial import call_apart

OUT = Path(__file__).parents[1] / "results" / "hostile"


def main() -> int:
    """Parse the options and try."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, count in {"folders": 300, "resumes": 20, "lines": 250, "calls": 2500}.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "printed").mkdir()
        call = partial(call_apart, folder=place / "printed")
        run = train_run(place, call)
        for name, trials in {
            "folders": try_folders(run, place / "copy", call, options.folders, options.seed),
            "resumes": try_resumes(run, place / "copy", call, options.resumes, options.seed),
            "lines": try_lines(run, place / "files", call, options.lines, options.seed),
            "calls": try_calls(options.calls, options.seed),
        }.items():
            summary = _summary([_told(name, trial) for trial in trials])
            if summary["tried"]:
                content = json.dumps({"seed": options.seed} | summary, indent=1)
                (options.out / f"{name}.json").write_text(content + "\n", encoding="utf-8")
            faults += len(summary["faults"])
    return int(faults > 0)


def _told(name: str, trial: Trial) -> Trial:
    print(f"{name}: {trial.name}: {trial.fault or 'well'}", flush=True)
    return trial


def _summary(trials: list[Trial]) -> dict[str, Any]:
    faults = [trial for trial in trials if trial.fault]
    return {
        "tried": len(trials),
        "ended": dict(sorted(Counter(trial.ended for trial in trials).items())),
        "faults": [f"{trial.name}: {trial.fault}" for trial in faults],
    }


if __name__ == "__main__":
    sys.exit(main())
