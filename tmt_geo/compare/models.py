"""The models of the rows, all with the parameters of the suite's full model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from tmt_geo.compare.fit_tmt import fit_tmt, tmt_params
from tmt_geo.compare.language import LanguageRow, LanguageRun, LanguageSuite, Recipe
from tmt_geo.evaluate.peers import build_peer
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.nn.copy_head import CopyHead

COPY = ("copy_k", "copy_dim", "copy_memory")
# What rows mean that do not name an option, because they are older.
BEFORE: dict[str, Any] = {"copy_sentinel": False, "index_dim": None}


def build_model(run: LanguageRun) -> PreTrainedModel:
    """The untrained model of a run, its weights drawn from its seed.

    Raises:
        ValueError: If no width comes within 1 % of the parameters of the suite's full model.
    """
    params = full_params(run.suite, run.recipe) if run.row.matched else None
    torch.manual_seed(run.seed)
    if run.row.family == "tmt":
        return fit_tmt(BEFORE | _sizes(run.recipe) | run.row.options, params)
    return _peer(run.row, run.recipe, params)


def full_params(suite: LanguageSuite, recipe: Recipe) -> int:
    """Parameters of the suite's full model under this recipe, shared weights counted once."""
    return tmt_params(_sizes(recipe) | suite.full)


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """What every model of a recipe shares, by the names that ``TMTConfig`` and ``build_peer`` have for it."""
    sizes = {"d_model": recipe.d_model, "n_layers": recipe.n_layers, "n_heads": recipe.n_heads}
    return sizes | {"vocab_size": recipe.vocab_size, "max_seq_len": recipe.block_size, "dropout": recipe.dropout}


def _peer(row: LanguageRow, recipe: Recipe, params: int | None) -> PreTrainedModel:
    options = {name: value for name, value in row.options.items() if name not in COPY}
    sentinel = options.pop("copy_sentinel", BEFORE["copy_sentinel"])
    copying = {name: row.options[name] for name in COPY if name in row.options}
    params = options.pop("params", params)
    if copying:
        with torch.device("meta"):
            head = CopyHead(recipe.d_model, copying["copy_k"], copying["copy_dim"])
        params -= sum(parameter.numel() for parameter in head.parameters())
    model = build_peer(row.family, params, **_sizes(recipe) | options)
    if not copying:
        return model
    return CopyLM(model, copying["copy_k"], copying["copy_dim"], copying["copy_memory"], sentinel)
