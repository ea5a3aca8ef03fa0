"""Where results are kept: one file a run."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tmt_geo.compare.suite import Row, Suite


def result_file(folder: Path, suite: Suite, row: Row, seed: int) -> Path:
    """Where the result of a run is kept: ``<folder>/<suite>/<row>-<seed>.json``."""
    return folder / suite.name / f"{slug(row.name)}-{seed}.json"


def slug(name: str) -> str:
    """A name as part of a file name: small letters, digits and dots, one hyphen between words."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().replace("without", "no")).strip("-")


def load(folder: Path, suite: Suite, row: Row, seed: int) -> dict[str, Any] | None:
    """The result of a run; None if there is none, or one of another plan."""
    path = result_file(folder, suite, row, seed)
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return result if result is not None and result["plan"] == suite.plan_hash(row) else None


def load_results(folder: Path, suite: Suite) -> dict[str, list[dict[str, Any]]]:
    """The results of all rows that have any, by the name of the row and in the order of the seeds."""
    found = {row.name: [load(folder, suite, row, seed) for seed in suite.seeds] for row in suite.rows}
    found = {name: [result for result in runs if result is not None] for name, runs in found.items()}
    return {name: runs for name, runs in found.items() if runs}


def shared(folder: Path, suite: Suite, row: Row, seed: int, digest: str) -> dict[str, Any] | None:
    """The result of another suite that is the same run on the same tokens, told as this row's; None if there is none.

    Args:
        folder: Of the results of all suites.
        suite: The suite.
        row: Its row.
        seed: Of the run.
        digest: Of the tokens.
    """
    needed = {f"{split}_word_ppl" for split in suite.splits}
    needed |= {"exit_profile"} if row.profiled else set()
    for path in sorted(folder.glob(f"*/*-{seed}.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        same = result["plan"] == suite.plan_hash(row) and result["seed"] == seed and result["data_hash"] == digest
        asked = set(map(str, row.passkey)) <= result.get("passkey", {}).keys()
        if same and asked and needed <= result.keys():
            told = _of_splits(result, suite.splits)
            return told | {"suite": suite.name, "row": row.name, "configuration": asdict(row)}
    return None


def _of_splits(result: dict[str, Any], splits: tuple[str, ...]) -> dict[str, Any]:
    """A result without what it says of other splits: a suite that still chooses must not see the test split."""
    scored = result["tokens_scored"]
    hidden = tuple(f"{split}_" for split in scored if split not in splits)
    told = {name: value for name, value in result.items() if not name.startswith(hidden)}
    return told | {"tokens_scored": {split: scored[split] for split in splits}}


def store(path: Path, result: dict[str, Any]) -> None:
    """Write all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def check_data(folder: Path, suite: Suite, kind: tuple[int, int], digest: str) -> None:
    """Refuse to put results on one text beside those on another, whatever they are called.

    Args:
        folder: Of the results.
        suite: The suite.
        kind: Vocabulary and length of the blocks; texts cut otherwise have other digests.
        digest: Of the text.

    Raises:
        ValueError: If the folder holds results of the suite on another text.
    """
    for runs in load_results(folder, suite).values():
        for run in runs:
            same_kind = (run["recipe"]["vocab_size"], run["recipe"]["block_size"]) == kind
            if same_kind and run["data_hash"] != digest:
                raise ValueError(
                    f"'out' holds results on other tokens, {run['data']!r}, {run['data_hash']}; choose another folder "
                    f"(got {digest})"
                )
