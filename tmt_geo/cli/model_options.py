"""Options of the model that ``tmt-geo train`` builds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmt_geo.models import TMTConfig


@dataclass
class ModelOptions:
    """A preset and what is otherwise about the model; see :class:`~tmt_geo.TMTConfig`.

    Args:
        preset: small, medium, base, large or published.
        d_model: Width.
        n_layers: Layers.
        n_heads: Attention heads; they divide the width.
        max_seq_len: Longest sequence that the model takes.
        ffn_stream_dim: Width of a feed-forward stream.
        dropout: Dropout.
        mesh: kNN mesh, or dense causal attention.
        graph_k: Nearest neighbors of a token.
        window: Previous tokens that are neighbors too.
        shift: A neighbor also passes on the token that followed it.
        decay: log, published or none.
        gated_heads: A gate on each head, which can switch it off.
        exit: Exit gates.
        exit_rule: budget, fixed or learned.
        exit_threshold: Fixed confidence at which a token leaves.
        exit_budget: Mean share of the layers to compute, 0 to 1.
        exit_after: Layers that every token passes before it may leave.
        dual_stream: Two feed-forward streams.
        gated_streams: Gated units in the streams.
        memory_anchors: Memory anchors of a layer; 0: none.
        copy_k: Votes of the copy head; 0: none. With a copy head the text is read in order.
    """

    preset: str = "small"
    d_model: int | None = None
    n_layers: int | None = None
    n_heads: int | None = None
    max_seq_len: int | None = None
    ffn_stream_dim: int | None = None
    dropout: float | None = None
    mesh: bool | None = None
    graph_k: int | None = None
    window: int | None = None
    shift: bool | None = None
    decay: str | None = None
    gated_heads: bool | None = None
    exit: bool | None = None
    exit_rule: str | None = None
    exit_threshold: float | None = None
    exit_budget: float | None = None
    exit_after: int | None = None
    dual_stream: bool | None = None
    gated_streams: bool | None = None
    memory_anchors: int | None = None
    copy_k: int | None = None

    def config(self, vocab_size: int) -> TMTConfig:
        """Returns the configuration, in which the preset decides what was not given."""
        from tmt_geo.models import TMTConfig

        given = {name: value for name, value in asdict(self).items() if value is not None}
        if self.decay == "none":
            given["decay"] = None
        return TMTConfig.from_preset(given.pop("preset"), vocab_size=vocab_size, **given)
