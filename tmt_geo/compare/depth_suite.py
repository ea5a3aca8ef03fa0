"""Exits where depth pays: six layers on five million tokens of long documents, cut down in several ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tmt_geo.compare.language import LanguageRow, LanguageSuite
from tmt_geo.compare.shared_options import ALONE, MUON, TINY

# Parameters of Llamas whose layers are those of the six (392 hidden units), and of six narrower layers whose
# operations are those of three.
CUT = {3: 1_697_664, 2: 1_481_344}
NARROW = 1_333_992


def _llama(name: str, recipe: dict[str, Any] | None = None, params: int | None = None) -> LanguageRow:
    """A Llama of this recipe, with so many parameters or those of all rows."""
    options = {} if params is None else {"params": params}
    return LanguageRow(name, family="llama", options=options, recipe=recipe or {}, matched=params is None)


def _exits(name: str, budget: float, **change: Any) -> LanguageRow:
    """The mesh whose tokens leave early, two layers for all."""
    return LanguageRow(name, options={**ALONE, "exit": True, "exit_budget": budget, "exit_after": 2, **change})


DEPTH = LanguageSuite(
    name="depth",
    about="Exits where depth pays: six layers, without a copy head, five million tokens of novels. A mesh whose "
    "tokens leave early, and models cut to as many operations in depth or in width.",
    rows=(
        _llama("llama"),
        _llama("llama, three layers", {"n_layers": 3}, CUT[3]),
        LanguageRow("mesh", options=ALONE),
        _exits("mesh, budget 0.5", 0.5),
        LanguageRow("mesh, three layers", options=ALONE, recipe={"n_layers": 3}, matched=False),
        _llama("llama, three layers, equal parameters", {"n_layers": 3}),
        _llama("llama, 88 channels", {"d_model": 88}, NARROW),
        _exits("mesh, budget 0.75", 0.75),
        _exits("mesh, budget 0.33", 0.33, exit_after=1),  # two layers for all would be two layers
        _llama("llama, two layers", {"n_layers": 2}, CUT[2]),
        _exits("mesh, budget 0.5, exits after one layer", 0.5, exit_after=1),
        _exits("mesh, budget 0.5, threshold that follows fast", 0.5, exit_momentum=0.2),
    ),
    recipe=replace(TINY, n_layers=6, steps=2450, eval_every=245, save_every=245, valid_tokens=200_000, **MUON),
    full={**ALONE, "n_layers": 6},
    baseline="llama",
    seeds=(42,),
)
