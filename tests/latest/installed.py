"""What both scripts use: the wheel as installed, never a checkout, and its command."""

import os
import subprocess
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import tmt_geo

assert Path(tmt_geo.__file__).is_relative_to(sys.prefix), f"the package must be an installed one, not {tmt_geo}"
assert (Path(tmt_geo.__file__).parent / "py.typed").is_file()

LINE = "the {} fox of {} jumps over {} lazy dogs and writes a line of text .\n"
TEXT = "".join(LINE.format(i, i * i, 7 * i % 11) for i in range(400))
TINY = "--vocab-size 300 --d-model 16 --n-layers 2 --n-heads 2 --max-seq-len 32 --graph-k 2 --window 2 --steps 2"
TINY += " --memory-anchors 2"


def command(*arguments: object, code: int = 0) -> str:
    """Runs the command as a shell would, and returns what it says; where it refuses, that must be one line."""
    program = Path(sys.executable).with_name("tmt-geo")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    if code == 2:
        assert done.stderr.startswith("tmt-geo: error: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr
    return done.stdout
