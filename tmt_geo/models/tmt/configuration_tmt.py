"""Configuration of the TemporalMesh language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tmt_geo.models.hub_config import HubConfig
from tmt_geo.models.tmt.checks_tmt import check_values
from tmt_geo.models.tmt.presets_tmt import PRESETS

# What a saved configuration means that does not name an option, because it is older.
BEFORE = {
    "content_mesh": False, "gated_heads": False, "gated_streams": False, "copy_sentinel": False, "index_dim": None,
}  # fmt: skip


class TMTConfig(HubConfig):
    r"""Configuration of :class:`TMTModel`; the defaults are the base size, without anchors and without a copy head.

    Names of Hugging Face and of the TemporalMesh Transformer (2026) both work: ``d_model`` is ``hidden_size``,
    ``n_layers`` ``num_hidden_layers``, ``n_heads`` ``num_attention_heads``, ``max_seq_len``
    ``max_position_embeddings``.

    **Sizes**

    Args:
        vocab_size (int): Size of the vocabulary :math:`V`.
        hidden_size (int): Channels :math:`F`.
        num_hidden_layers (int): Layers :math:`L`.
        num_attention_heads (int): Heads :math:`H`, a divisor of `hidden_size`.
        num_key_value_heads (int, optional): Key and value heads, a divisor of the heads. (default: as many)
        max_position_embeddings (int): The longest sequence of training, in tokens; the unit of the decay's time.

    **Mesh**

    Args:
        mesh (bool): Attend over a mesh that every layer builds anew; off, densely to the whole past.
        graph_k (int): Nearest neighbors a token.
        window (int): Previous tokens that each token attends to beside its nearest neighbors.
        index_dim (int, optional): Search among so many channels, a projection of the states, and keep so many in the
            cache; the states themselves where they have no more, or at :obj:`None`. Published: the states.
        rebuild_every (int): Build the mesh in every so many layers; those between reuse the last one.
        mesh_memory (int): Tokens from before the sequence that are remembered where a text is read in order: keys,
            values and index features, without their graph. The window reaches into them, and some layers find the
            nearest of all of them, until a document ends with `eos_token_id`. A copy head then copies from as many.
            Without a mesh, every layer attends to all of them. Needs `content_mesh` where there is one.
        memory_k (int): Nearest remembered tokens a token, beside its `graph_k` nearest of the sequence.
        memory_layers (int): The last so many of the layers that build the mesh anew find them.
        search (str): ``"auto"`` (exact), ``"ivf"`` or ``"windows"``, see :func:`~tmt_geo.knn_graph`. A continued
            cache is searched exactly by all but ``"windows"``.

    **Attention**

    Args:
        shift (bool): A neighbor's value also holds that of the token after it.
        decay (str, optional): ``"log"``, ``"published"`` or :obj:`None`.
        decay_rate (float): Where the decay starts, see :class:`~tmt_geo.TemporalDecay`; in one over
            `max_position_embeddings` tokens.
        rotary (bool): Rotary positions.
        content_mesh (bool): Edges of the mesh go by content: rotary positions and decay act on the window and the
            token itself alone. Published: they act on all edges.
        gated_heads (bool): Scale each head's output by a gate that depends on the target token.
        qk_norm (bool): Normalise queries and keys, head by head.

    **Exits**

    Args:
        exit (bool): Whether tokens may exit before the last layer.
        exit_rule (str, optional): ``"budget"``, ``"fixed"`` or ``"learned"``. (default: ``"fixed"`` if a threshold is
            given, else ``"budget"``)
        exit_threshold (float, optional): Confidence at which a token exits, obeyed as given: at 0 every token exits
            after the first layer, at 1 none ever does. Published: 0.85.
        exit_budget (float): Mean share of the tokens a layer computes, under the budget and learned rules.
        exit_after (int): Layers that every token passes before it may exit.
        exit_momentum (float): Of the running threshold. At 0.8 it is slow, and early in training fewer tokens than
            the budget stay active, which has measured better than holding the budget from the start.
        exit_loss_coef (float): Weight of the gates' own loss.

    **Feed-forward**

    Args:
        dual_stream (bool): Two feed-forward streams, or a plain network.
        gated_streams (bool): Gated hidden units (SwiGLU) in the two streams; published: GELU.
        ffn_stream_dim (int, optional): Width of each stream. (default: ``2 * hidden_size``, or two thirds of that
            where the units are gated)
        intermediate_size (int, optional): Width of the plain network. (default: ``4 * hidden_size``)

    **Memory anchors**

    Args:
        memory_anchors (int): Anchors a layer; none at 0.
        memory_momentum (float): Momentum of the anchors.

    **Copy head**

    Args:
        copy_k (int): Votes of a copy head, which mixes the tokens that followed the nearest earlier tokens into the
            prediction, see :class:`~tmt_geo.nn.copy_head.CopyHead`; no copy head at 0.
        copy_dim (int): Channels in which it compares tokens.
        copy_memory (int): Tokens from before the sequence that it may copy from, where it is given a memory.
        copy_sentinel (bool): Copy the less, the farther the nearest earlier tokens are.

    **Training and generation**

    Args:
        dropout (float): Probability of dropout everywhere.
        initializer_range (float): Standard deviation of the weights; projections that end a residual branch start
            with it divided by :math:`\sqrt{2L}`.
        zero_init (bool): Start those projections at zero: every layer then begins as the identity.
        layer_norm_eps (float): Of the layer norms.
        tie_word_embeddings (bool): One matrix for embedding and vocabulary head.
        use_cache (bool): Keep keys, values and index features for generation.
        bos_token_id (int, optional): Where a text begins.
        eos_token_id (int, optional): Where it ends.
        pad_token_id (int, optional): What fills a batch.

    Raises:
        ValueError: For a value out of range, naming it.

    Example:
        >>> from tmt_geo import TMTConfig
        >>> TMTConfig(vocab_size=50257, d_model=512, n_heads=8, n_layers=12).hidden_size
        512
        >>> TMTConfig.from_preset("small", vocab_size=8192).num_hidden_layers
        4
    """

    model_type = "tmt"
    auto_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "TMTConfig", "AutoModel": "TMTBackbone", "AutoModelForCausalLM": "TMTForCausalLM",
    }  # fmt: skip
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "past_key_values", "cache", "gate_loss", "exit_masks", "confidences", "graph_edges", "memory_state",
        "decay_scalars", "active_share", "num_edges", "copy_memory", "num_votes", "last_hidden_state",
    ]  # fmt: skip
    # Embedding, last norm and head are sharded with the model as a whole, which knows weights that are tied.
    base_model_fsdp_plan: ClassVar[dict[Any, str]] = {"encoder.layers.*": "free_full_weight"}
    attribute_map: ClassVar[dict[str, str]] = {
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "max_seq_len": "max_position_embeddings",
    }

    vocab_size: int = 50257
    hidden_size: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 1024
    mesh: bool = True
    graph_k: int = 8
    window: int = 16
    index_dim: int | None = 64
    rebuild_every: int = 1
    mesh_memory: int = 0
    memory_k: int = 16
    memory_layers: int = 1
    search: str = "auto"
    shift: bool = True
    decay: str | None = "log"
    decay_rate: float = 64.0
    rotary: bool = True
    content_mesh: bool = True
    gated_heads: bool = True
    qk_norm: bool = False
    exit: bool = True
    exit_rule: str | None = None
    exit_threshold: float | None = None
    exit_budget: float = 0.5
    exit_after: int = 1
    exit_momentum: float = 0.8
    exit_loss_coef: float = 0.1
    dual_stream: bool = True
    gated_streams: bool = True
    ffn_stream_dim: int | None = None
    intermediate_size: int | None = None
    memory_anchors: int = 0
    memory_momentum: float = 0.99
    copy_k: int = 0
    copy_dim: int = 32
    copy_memory: int = 2048
    copy_sentinel: bool = True
    dropout: float = 0.1
    initializer_range: float = 0.02
    zero_init: bool = False
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    if TYPE_CHECKING:  # the names of `attribute_map`, which no checker follows
        d_model: int = 512
        n_layers: int = 12
        n_heads: int = 8
        kv_heads: int | None = None
        max_seq_len: int = 1024

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check()

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> TMTConfig:
        """One of the published sizes with a copy head, or the published formulas, made causal, at the base size.

        Args:
            name (str): ``"small"``, ``"medium"``, ``"base"``, ``"large"`` or ``"published"``.
            **overrides: Any argument of the configuration.

        Raises:
            ValueError: If there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"'preset' must be one of {sorted(PRESETS)} (got {name!r})")
        known = {cls.attribute_map.get(key, key): value for key, value in PRESETS[name].items()}
        given = {cls.attribute_map.get(key, key): value for key, value in overrides.items()}
        return cls(**{**known, **given})

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> TMTConfig:
        """A saved configuration, which names all options; those it does not name were off when it was saved.

        Args:
            config_dict (dict): What is in its file.
            **kwargs: Of ``PreTrainedConfig.from_dict``.
        """
        if "transformers_version" in config_dict:
            config_dict = BEFORE | config_dict
        return super().from_dict(config_dict, **kwargs)

    @property
    def gate_rule(self) -> str | None:
        """The rule of the exit gates in force, None without exits."""
        if not self.exit:
            return None
        return self.exit_rule or ("budget" if self.exit_threshold is None else "fixed")

    @property
    def index_channels(self) -> int | None:
        """The channels of the projection that is searched; None where it is the states themselves."""
        return None if self.index_dim is None or self.index_dim >= self.hidden_size else self.index_dim

    @property
    def carried(self) -> int:
        """The latest remembered tokens, which every layer has as if they stood in the sequence."""
        return max(self.window, 1) if self.mesh else self.mesh_memory

    @property
    def far_layers(self) -> tuple[int, ...]:
        """The layers that find all that is remembered."""
        searching = range(0, self.num_hidden_layers, self.rebuild_every)
        return tuple(searching[-self.memory_layers :]) if self.mesh and self.mesh_memory else ()

    def check(self) -> None:
        """Raise a `ValueError` that names the first value out of range."""
        check_values(self)
