"""Is a killed run the run it would have been? Trainings and comparisons are killed at random moments and resumed.

    python -m benchmarks.kills                     50 kills, in minutes
    python -m benchmarks.kills --kills 5 --seed 1

Three jobs take turns: ``tmt-geo train`` with its copy head; a training with a mesh memory and a copy head; a
comparison of two such rows. Each runs once as it is, which gives the time that a kill is drawn from and the weights
that it has to end with. Then it is started, killed with SIGKILL after a random part of that time, and started again,
until it ends by itself. One line a job that ended; the exit code is 1 if one could not go on or ended elsewhere.

Processes are forked from one that has imported everything, so that a kill meets the work and not the imports.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.kills.killing import try_jobs


def main() -> int:
    """Parse the options and kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = try_jobs(Path(folder), options.kills, options.seed)
    print(f"{options.kills} kills, {wrong} of the resumed runs ended elsewhere")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
