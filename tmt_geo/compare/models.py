"""The models of the rows, all with the parameters of the suite's full model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from tmt_geo.compare.language import LanguageRow, LanguageRun, LanguageSuite, Recipe
from tmt_geo.evaluate.match_width import linear_count, match_width
from tmt_geo.evaluate.peers import build_peer
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.nn.copy_head import CopyHead

TOLERANCE = 0.01
COPY = ("copy_k", "copy_dim", "copy_memory")


def build_model(run: LanguageRun) -> PreTrainedModel:
    """The untrained model of a run, its weights drawn from its seed.

    Raises:
        ValueError: If no width comes within 1 % of the parameters of the suite's full model.
    """
    params = full_params(run.suite, run.recipe) if run.row.matched else None
    torch.manual_seed(run.seed)
    return _tmt(run.row, run.recipe, params) if run.row.family == "tmt" else _peer(run.row, run.recipe, params)


def full_params(suite: LanguageSuite, recipe: Recipe) -> int:
    """Parameters of the suite's full model under this recipe, shared weights counted once."""
    return _params(_config(recipe, suite.full))


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """What every model of a recipe shares, by the names that ``TMTConfig`` and ``build_peer`` have for it."""
    sizes = {"d_model": recipe.d_model, "n_layers": recipe.n_layers, "n_heads": recipe.n_heads}
    return sizes | {"vocab_size": recipe.vocab_size, "max_seq_len": recipe.block_size, "dropout": recipe.dropout}


def _config(recipe: Recipe, options: dict[str, Any]) -> TMTConfig:
    return TMTConfig(**_sizes(recipe) | options)


def _params(config: TMTConfig) -> int:
    with torch.device("meta"):
        return TMTModel(config).num_parameters()


def _tmt(row: LanguageRow, recipe: Recipe, params: int | None) -> TMTModel:
    options = dict(row.options)
    if params is not None:
        name = "ffn_stream_dim" if _config(recipe, options).dual_stream else "intermediate_size"
        count = linear_count(lambda width: _params(_config(recipe, options | {name: width})))
        width = options[name] = match_width(count, params)
        if abs(count(width) - params) > TOLERANCE * params:
            raise ValueError(
                f"'{name}' cannot bring row {row.name!r} within 1 % of {params} parameters (got {count(width)})"
            )
    return TMTModel(_config(recipe, options))


def _peer(row: LanguageRow, recipe: Recipe, params: int | None) -> PreTrainedModel:
    options = {name: value for name, value in row.options.items() if name not in COPY}
    copying = {name: row.options[name] for name in COPY if name in row.options}
    params = options.pop("params", params)
    if copying:
        with torch.device("meta"):
            head = CopyHead(recipe.d_model, copying["copy_k"], copying["copy_dim"])
        params -= sum(parameter.numel() for parameter in head.parameters())
    model = build_peer(row.family, params, **_sizes(recipe) | options)
    if not copying:
        return model
    return CopyLM(model, copying["copy_k"], copying["copy_dim"], copying["copy_memory"])
