"""Tests on a GPU: those that are made for it, and then all others with tensors made there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from benchmarks.device.steps import Place

WORKERS = 8  # processes that share the device


def every_device(place: Place, store: Callable[[list[dict]], None]) -> None:
    """The tests of ``tests/cuda``."""
    chosen = ["tests/cuda/test_search.py", "-k", "newest and cpu"] if place.toy else ["tests/cuda", "-k", "gpu"]
    _run(chosen, "tests", {}, place, store)


def whole(place: Place, store: Callable[[list[dict]], None]) -> None:
    """The tests of operators, layers and models as they are, but with tensors that are made on the device."""
    chosen = ["tests/ops/test_shift.py"] if place.toy else ["tests/ops", "tests/nn", "tests/models"]
    device = {"TMT_GEO_TEST_DEVICE": "cpu" if place.toy else "cuda"}
    _run(chosen, "suite", device, place, store)


def _run(
    chosen: list[str], name: str, variables: dict[str, str], place: Place, store: Callable[[list[dict]], None]
) -> None:
    report = place.out / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"]
    if not place.toy and find_spec("xdist") is not None:
        command += ["--numprocesses", str(WORKERS)]
    subprocess.run([*command, "--verbose"], env=os.environ | variables, check=False)
    rows = rows_of(ElementTree.parse(report))
    store(rows)
    if not rows[0]["tests"]:
        raise RuntimeError(f"'chosen' must name tests (got none by {' '.join(chosen)})")


def rows_of(report: ElementTree.ElementTree) -> list[dict]:
    """How many tests there were, and what those that failed say, from the report of pytest."""
    cases = list(report.iter("testcase"))
    failed = [(case, part) for case in cases for part in case if part.tag in ("failure", "error")]
    skipped = sum(part.tag == "skipped" for case in cases for part in case)
    counts = {"tests": len(cases), "failed": len(failed), "skipped": skipped}
    said = [
        {"test": f"{case.get('classname')}::{case.get('name')}", "says": (part.get("message") or "")[:300]}
        for case, part in failed
    ]
    return [counts, *said]
