"""Finished runs of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tmt_geo.compare.json_file import read_json
from tmt_geo.compare.language import LanguageRun, LanguageSuite, Recipe


def load_results(folder: Path, suite: LanguageSuite) -> dict[str, list[dict[str, Any]]]:
    """The results of all rows that have any, by the name of the row and in the order of the seeds."""
    found: dict[str, list[dict[str, Any]]] = {row.name: [] for row in suite.rows}
    for run in suite.runs():
        result = run.load(folder)
        if result is not None:
            found[run.row.name].append(result)
    return {name: results for name, results in found.items() if results}


def load_shared(folder: Path, run: LanguageRun, digest: str) -> dict[str, Any] | None:
    """The result of another suite that is the same run on the same tokens, as a result of this run.

    Args:
        folder: Of the results of all suites.
        run: The run.
        digest: Of the tokens.

    Returns:
        None if there is none, or none that holds all that the row needs.
    """
    suite, row = run.suite, run.row
    needed = {f"{split}_word_ppl" for split in suite.splits}
    needed |= {"exit_profile"} if row.profiled else set()
    needed |= {"caches"} if row.cached else set()
    for path in sorted(folder.glob(f"*/*-{run.seed}.json")):
        result = read_json(path)
        same = (result["plan"], result["seed"], result["data_hash"]) == (run.plan, run.seed, digest)
        distances = set(map(str, row.passkey)) <= result.get("passkey", {}).keys()
        if same and distances and needed <= result.keys():
            return _of_splits(result, suite.splits) | {"suite": suite.name, "row": row.name}
    return None


def _of_splits(result: dict[str, Any], splits: tuple[str, ...]) -> dict[str, Any]:
    """A result without the figures of other splits: a suite that still chooses must not see the test split."""
    scored = result["tokens_scored"]
    hidden = tuple(f"{split}_" for split in scored if split not in splits)
    kept = {name: value for name, value in result.items() if not name.startswith(hidden)}
    return kept | {"tokens_scored": {split: scored[split] for split in splits}}


def check_data(folder: Path, suite: LanguageSuite, recipe: Recipe, digest: str) -> None:
    """Refuse to put results on one text beside those on another, whatever they are called.

    Args:
        folder: Of the results.
        suite: The suite.
        recipe: By which the text was cut into tokens; cut otherwise it has another digest.
        digest: Of the tokens.

    Raises:
        ValueError: If the folder holds results of the suite on another text.
    """
    for results in load_results(folder, suite).values():
        for result in results:
            same_cut = Recipe(**result["plan"]["recipe"]).corpus == recipe.corpus
            if same_cut and result["data_hash"] != digest:
                raise ValueError(
                    f"'out' holds results on other tokens, {result['data']!r}, {result['data_hash']}; choose another "
                    f"folder (got {digest})"
                )
