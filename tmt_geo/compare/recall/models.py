"""The models of the rows, all with as many parameters as the mesh has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tmt_geo.compare.fit_tmt import fit_tmt, tmt_params
from tmt_geo.compare.recall.row import RecallRow
from tmt_geo.data.problems.problem import NOT_ASKED
from tmt_geo.data.problems.recall import Questions
from tmt_geo.evaluate.peers import build_peer
from tmt_geo.models import TMTConfig

# Layers and nothing else: no exits, copy head, anchors or dropout.
PLAIN: dict[str, Any] = {"exit": False, "copy_k": 0, "memory_anchors": 0, "dropout": 0.0, "index_dim": None}
MESH: dict[str, Any] = {"graph_k": 8, "window": 8}


def build_model(row: RecallRow, sizes: dict[str, Any]) -> PreTrainedModel:
    """The untrained model of a row.

    Args:
        row: The row.
        sizes: What all models share, by the names that ``TMTConfig`` and ``build_peer`` have for it.

    Raises:
        ValueError: If no width of its feed-forward network comes within 1 % of the parameters of the mesh.
    """
    params = tmt_params(sizes | PLAIN | MESH)
    if row.family == "tmt":
        return fit_tmt(sizes | PLAIN | row.options, params)
    return build_peer(row.family, params, **sizes | row.options)


def keys_read(row: RecallRow) -> str:
    """How many keys a token reads in a layer, its own among them."""
    if row.family == "tmt":
        config = TMTConfig(**PLAIN | row.options)
        return str(config.graph_k + config.window + 1)
    return {"mistral": str(row.options.get("keys")), "mamba2": "a state"}.get(row.family, "all")


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Parameters, shared weights counted once, and those that are not the embedding."""
    params, embedding = model.num_parameters(), model.get_input_embeddings()
    embedded = sum(parameter.numel() for parameter in embedding.parameters())
    return {"params": params, "params_without_embeddings": params - embedded}


def answer(model: PreTrainedModel, questions: Questions) -> tuple[Tensor, Tensor]:
    """Logits (A, V) for all answers, and the right ones (A).

    The head, most of the operations at these sizes, is computed where something is asked and nowhere else.
    """
    tokens, answers = (part.to(model.device) for part in questions)
    asked = answers != NOT_ASKED
    head: Any = model.get_output_embeddings()
    hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    return head(hidden[asked]), answers[asked]


@torch.no_grad()
def right(model: PreTrainedModel, questions: Questions) -> Tensor:
    """Which answers a model gives rightly (A)."""
    logits, answers = answer(model, questions)
    return logits.argmax(-1) == answers
