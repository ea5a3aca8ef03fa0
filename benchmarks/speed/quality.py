"""Which committed result a model of a row of speed has, so that speed is not shown without it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tmt_geo.compare.json_file import read_json
from tmt_geo.compare.mean import mean_of
from tmt_geo.compare.models import BEFORE
from tmt_geo.models import TMTConfig

RESULTS = Path(__file__).parents[1] / "results" / "quality"
SIZES = ("vocab_size", "d_model", "n_layers", "n_heads")
FREE = {"max_seq_len": 1, "dropout": 0.0}  # of training, not of the model


def quality(model: dict[str, Any] | None) -> str:
    """The committed results of a model of these sizes and options, as ``"push, full: 150.0 a word"``.

    Args:
        model: Sizes and options of a :class:`TMTConfig`; None for a row without a language model.

    Returns:
        str: ``"none"`` where no such model has been trained, ``"-"`` where there is no model.
    """
    if model is None:
        return "-"
    wanted = _key(**model)
    runs: dict[tuple[str, str], list[dict]] = {}
    for run, key in _trained():
        if key == wanted and "test_word_ppl" in run:
            runs.setdefault((run["suite"], run["row"]), []).append(run)
    said = [f"{suite}, {row}: {mean_of(found, 'test_word_ppl').say(1)} a word" for (suite, row), found in runs.items()]
    return "; ".join(said) or "none"


@cache
def _trained() -> list[tuple[dict[str, Any], str]]:
    """The committed runs of our own models, each with what tells its model from others."""
    runs = [read_json(path) for path in sorted(RESULTS.glob("*/*.json"))]
    ours = [run for run in runs if run["plan"]["family"] == "tmt"]
    return [(run, _key(**BEFORE | _sizes(run["plan"]["recipe"]) | run["plan"]["options"])) for run in ours]


def _sizes(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: recipe[name] for name in SIZES}


def _key(**model: Any) -> str:
    return TMTConfig(**model | FREE).to_json_string()
