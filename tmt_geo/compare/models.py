"""The models of the rows, all with the parameters of the suite's full model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from tmt_geo.compare.suite import Recipe, Row, Suite
from tmt_geo.evaluate.peers import build_peer
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.nn.copy_head import CopyHead

TOLERANCE = 0.01
COPY = ("copy_k", "copy_dim", "copy_memory")


def build_model(suite: Suite, row: Row, seed: int) -> PreTrainedModel:
    """The untrained model of a row, its weights drawn from this seed.

    Raises:
        ValueError: If no width comes within 1 % of the parameters of the suite's full model.
    """
    recipe = suite.recipe_of(row)
    params = full_params(suite, recipe) if row.matched else None
    torch.manual_seed(seed)
    return _tmt(row, recipe, params) if row.family == "tmt" else _peer(row, recipe, params)


def full_params(suite: Suite, recipe: Recipe) -> int:
    """Parameters of the suite's full model under this recipe, shared weights counted once."""
    with torch.device("meta"):
        return TMTModel(_config(recipe, suite.full)).num_parameters()


def _sizes(recipe: Recipe) -> dict[str, Any]:
    """What every model of a recipe shares, by the names that ``TMTConfig`` and ``build_peer`` have for it."""
    sizes = {"d_model": recipe.d_model, "n_layers": recipe.n_layers, "n_heads": recipe.n_heads}
    return sizes | {"vocab_size": recipe.vocab_size, "max_seq_len": recipe.block_size, "dropout": recipe.dropout}


def _config(recipe: Recipe, options: dict[str, Any]) -> TMTConfig:
    # A plain transformer has no such gates. Anchors were the default when the recorded rows were planned.
    return TMTConfig(**_sizes(recipe) | {"gated_heads": False, "memory_anchors": 16} | options)


def _tmt(row: Row, recipe: Recipe, params: int | None) -> TMTModel:
    options = dict(row.options)
    if params is not None:
        name = "ffn_stream_dim" if options.get("dual_stream", True) else "intermediate_size"
        with torch.device("meta"):
            narrow, wider = (TMTModel(_config(recipe, options | {name: width})).num_parameters() for width in (1, 2))
        options[name] = width = 1 + round((params - narrow) / (wider - narrow))
        reached = narrow + (width - 1) * (wider - narrow)
        if width < 1 or abs(reached - params) > TOLERANCE * params:
            raise ValueError(
                f"'{name}' cannot bring row {row.name!r} within 1 % of {params} parameters (got {reached})"
            )
    return TMTModel(_config(recipe, options))


def _peer(row: Row, recipe: Recipe, params: int | None) -> PreTrainedModel:
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
