"""Configuration of the quartic language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tmt_geo.models.hub_config import HubConfig
from tmt_geo.models.quartic.quartic_transformer import EDGE_FORMS

COUNTS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "edge_size", "edge_heads",
    "linear_heads", "linear_head_dim", "ff_mult", "num_residual_lanes", "max_position_embeddings",
)  # fmt: skip


class QuarticConfig(HubConfig):
    r"""Configuration of :class:`QuarticModel`.

    Names of Hugging Face and of the published call, that of
    :class:`~tmt_geo.models.quartic.quartic_transformer.QuarticTransformer`, both work: ``num_tokens`` is
    ``vocab_size``, ``dim`` ``hidden_size``, ``depth`` ``num_hidden_layers``, ``heads`` ``num_attention_heads``,
    ``dim_head`` ``head_dim``, ``dim_edges`` ``edge_size``, ``linear_dim_head`` ``linear_head_dim``,
    ``num_residual_streams`` ``num_residual_lanes``, ``max_seq_len`` ``max_position_embeddings``. The model is causal.

    Args:
        vocab_size (int): Size of the vocabulary.
        hidden_size (int): Channels of the tokens.
        num_hidden_layers (int): Layers.
        num_attention_heads (int): Heads of the tokens.
        head_dim (int): Channels of each of them.
        edge_size (int): Channels of the edges, a multiple of `edge_heads`.
        edge_forms (list of str): Attention among edges, one after another.
        edge_heads (int): Heads of all forms but the linear and the diagonal one.
        linear_heads (int): Heads of those two.
        linear_head_dim (int): Channels of each of them.
        edges_diagonal_attn (bool): Let the self-loops attend to each other, behind the other forms.
        ablate_edges (bool): Leave out the edges.
        num_residual_lanes (int): Residual lanes of the tokens.
        ff_mult (int): Width of the feed-forward networks, in channels of what passes them.
        max_position_embeddings (int): The longest sequence.
        dropout (float): Probability of dropout everywhere.
        initializer_range (float): Standard deviation of the weights.
        tie_word_embeddings (bool): One matrix for embedding and vocabulary head.
        bos_token_id (int, optional): Where a text begins.
        eos_token_id (int, optional): Where it ends.
        pad_token_id (int, optional): What fills a batch.

    Raises:
        ValueError: For a value out of range, naming it.

    Example:
        >>> from tmt_geo.models.quartic.configuration_quartic import QuarticConfig
        >>> QuarticConfig(num_tokens=256, dim=32, depth=2).hidden_size
        32
    """

    model_type = "quartic"
    auto_classes: ClassVar[dict[str, str]] = {"AutoConfig": "QuarticConfig", "AutoModelForCausalLM": "QuarticModel"}
    attribute_map: ClassVar[dict[str, str]] = {
        "num_tokens": "vocab_size",
        "dim": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "dim_head": "head_dim",
        "dim_edges": "edge_size",
        "linear_dim_head": "linear_head_dim",
        "num_residual_streams": "num_residual_lanes",
        "max_seq_len": "max_position_embeddings",
    }

    vocab_size: int = 50257
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    head_dim: int = 64
    edge_size: int = 16
    edge_forms: list[str] | tuple[str, ...] = ("linear",)
    edge_heads: int = 4
    linear_heads: int = 16
    linear_head_dim: int = 16
    edges_diagonal_attn: bool = True
    ablate_edges: bool = False
    num_residual_lanes: int = 4
    ff_mult: int = 4
    max_position_embeddings: int = 2048
    dropout: float = 0.0
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    use_cache: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    if TYPE_CHECKING:  # the names of `attribute_map`, which no checker follows
        num_tokens: int = 50257
        dim: int = 256
        depth: int = 4
        heads: int = 8
        dim_head: int = 64
        dim_edges: int = 16
        linear_dim_head: int = 16
        num_residual_streams: int = 4
        max_seq_len: int = 2048

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not isinstance(self.edge_forms, (list, tuple)):
            raise ValueError(f"'edge_forms' must be a list of names (got {self.edge_forms!r})")
        self.edge_forms = list(self.edge_forms)
        self.use_cache = False  # whatever a script has turned on before it saved: there is none
        self.check()

    def options(self) -> dict[str, Any]:
        """The arguments of :class:`~tmt_geo.models.quartic.quartic_transformer.QuarticTransformer`."""
        names = {
            *self.attribute_map, "ff_mult", "dropout", "ablate_edges", "edges_diagonal_attn", "linear_heads",
            "edge_forms", "edge_heads",
        }  # fmt: skip
        return {"causal": True, **{name: getattr(self, name) for name in names}}

    def check(self) -> None:
        """Raise a `ValueError` that names the first value out of range."""
        for name in COUNTS:
            self.check_count(name, 1)
        if self.edge_size % self.edge_heads:
            raise ValueError(
                f"'edge_size' must be a multiple of 'edge_heads' (got {self.edge_size} and {self.edge_heads})"
            )
        for form in self.edge_forms:
            if form not in EDGE_FORMS:
                raise ValueError(f"'edge_forms' must be among {', '.join(EDGE_FORMS)} (got {form!r})")
        self.check_number("dropout")
        self.check_initial_range()
        self.check_flags()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"'dropout' must lie in [0, 1) (got {self.dropout})")
