"""A modern recipe, chosen on the validation split: each of its parts on Llama too."""

from __future__ import annotations

from typing import Any

from tmt_geo.compare.language import LanguageRow, LanguageSuite
from tmt_geo.compare.shared_options import COPY, COPY_RATE, FULL_RATE, MUON, SIZE, TINY, TWO_LAYERS

MUON_RATES = (4e-3, 8e-3, 1.6e-2)

# Name, family, options and rate by AdamW of each model.
MODELS: tuple[tuple[str, str, dict[str, Any], dict[str, Any]], ...] = (
    ("llama", "llama", {}, {}),
    ("full", "tmt", TWO_LAYERS, FULL_RATE),
    ("llama with copy head", "llama", COPY, COPY_RATE),
)


def _rows(what: str, recipe: dict[str, Any] | None = None, **options: Any) -> list[LanguageRow]:
    """Every model with the same change of recipe or options."""
    return [
        LanguageRow(f"{name}, {what}", family=family, options={**own, **options}, recipe={**rate, **(recipe or {})})
        for name, family, own, rate in MODELS
    ]


def _qk_norm() -> list[LanguageRow]:
    """Normalised queries and keys: Qwen3 is Llama with them."""
    return [
        LanguageRow(f"{name}, + QK-norm", family="qwen3", options=own, recipe=MUON)
        if family == "llama"
        else LanguageRow(f"{name}, + QK-norm", options={**own, "qk_norm": True}, recipe=MUON)
        for name, family, own, _ in MODELS
    ]


def _indices() -> list[LanguageRow]:
    """The mesh searched in more channels than 32: in half of them, and in all."""
    return [
        LanguageRow(f"full, + index of {dim or 'all'} channels", options={**TWO_LAYERS, "index_dim": dim}, recipe=MUON)
        for dim in (64, None)
    ]


RECIPE = LanguageSuite(
    name="recipe",
    about="A modern recipe, chosen on the validation split after 500 steps: Muon at three rates, then on top of it "
    "one thing more at a time. `full` is the two layers of `push` whose mesh goes by content.",
    rows=(
        *_rows("AdamW"),
        *(row for rate in MUON_RATES for row in _rows(f"Muon, rate {rate:g}", MUON | {"learning_rate": rate})),
        *_qk_norm(),
        *_rows("+ branches that end in zero", MUON, zero_init=True),
        *_rows("+ average of weights", MUON | {"ema_decay": 0.98}),
        *_rows("+ weight decay of 0.3", MUON | {"weight_decay": 0.3}),
        *_rows("+ weight decay of 1", MUON | {"weight_decay": 1.0}),
        *_indices(),
    ),
    recipe=TINY,
    full=SIZE,
    baseline="llama, AdamW",
    seeds=(42,),
    tested=False,
)
