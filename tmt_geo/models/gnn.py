"""A graph neural network of mesh attention, in the manner of PyG's ``BasicGNN``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch_geometric.data import Data
from torch_geometric.nn import Aggregation, MultiAggregation
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.nn.resolver import aggregation_resolver
from torch_geometric.typing import Adj

from tmt_geo.models.graph_input import GraphInput, graph_input, layer_fields
from tmt_geo.models.layers_as_modules import behind_convolution, run_modules
from tmt_geo.nn.conv.edge_list import EdgeList
from tmt_geo.nn.conv.mesh_attention import MeshAttention
from tmt_geo.nn.evaluation_mode import evaluation_mode
from tmt_geo.nn.exit_gate import ExitGate, GateOutput, exit_gates
from tmt_geo.nn.node_state import NodeState
from tmt_geo.ops.checks import check_counts, check_flags, check_shares
from tmt_geo.ops.knn import check_options, knn_graph
from tmt_geo.ops.mesh import Mesh


class MeshGNN(BasicGNN):
    r"""A graph neural network of :class:`~tmt_geo.MeshAttention` layers: the TemporalMesh Transformer as a PyG model.

    Its layers attend over the edges they are given, over the `k` nearest of the states that enter them (the mesh,
    searched anew by each layer), or over both together, each edge once. With an `exit_rule` gates stand behind all
    layers but the last, as in :class:`~tmt_geo.TMTEncoder`: nodes that have left keep their state, stay sources, and
    cost no later layer a matrix product. Without `causal` a budget holds in every step of training: gates then go by
    the nodes of the batch. All else is as in PyG's :class:`~torch_geometric.nn.models.GAT`. Explainers
    weigh the edges that are given; those of the mesh have no number for them and stay.

    Args:
        in_channels (int): Size of each input sample, ``-1`` to infer it.
        hidden_channels (int): Size of each hidden sample :math:`F`, all heads together.
        num_layers (int): The number of layers :math:`L`.
        out_channels (int, optional): Size of each output sample. (default: :obj:`None`, `hidden_channels`)
        dropout (float, optional): Dropout probability of the hidden samples; that of the attention is
            `attention_dropout`. (default: :obj:`0.`)
        act (str or Callable, optional): The non-linearity. (default: :obj:`"relu"`)
        act_first (bool, optional): Apply it before the normalisation. (default: :obj:`False`)
        act_kwargs (dict, optional): Its arguments. (default: :obj:`None`)
        norm (str or Callable, optional): The normalisation. (default: :obj:`None`)
        norm_kwargs (dict, optional): Its arguments. (default: :obj:`None`)
        jk (str, optional): Jumping knowledge: :obj:`None`, ``"last"``, ``"cat"``, ``"max"`` or ``"lstm"``. Pooling and
            gates need a linear layer at the end and take ``"last"`` for :obj:`None`. (default: :obj:`None`)
        k (int, optional): Nearest neighbors a node; no mesh at 0. (default: :obj:`0`)
        metric (str, optional): ``"cosine"`` or ``"euclidean"``. (default: :obj:`"cosine"`)
        causal (bool, optional): Attend only to what is earlier, by mesh and edges. Needs `time`. A norm over more than
            one node (``"batch_norm"`` in training, ``"graph_norm"``, PyG's ``"layer_norm"`` in its default mode)
            depends on later nodes all the same: take ``norm_kwargs={"mode": "node"}``. (default: :obj:`False`)
        pool (str, Aggregation or list, optional): How the nodes of a graph become one row, before the last linear
            layer, as in :func:`torch_geometric.nn.resolver.aggregation_resolver`: ``"mean"``, ``"add"``, ``"max"``, a
            list of them, ... (default: :obj:`None`, a row for each node)
        exit_rule (str, optional): ``"budget"``, ``"fixed"`` or ``"learned"``, see :class:`~tmt_geo.ExitGate`.
            (default: :obj:`None`, no gates)
        exit_budget (float, optional): Mean active share of the layers under the budget and learned rules.
            (default: :obj:`0.5`)
        exit_threshold (float, optional): Of the fixed rule. (default: :obj:`0.85`)
        attention_dropout (float, optional): Probability with which a weight of the attention is dropped.
            (default: :obj:`0.`)
        **kwargs (optional): Of :class:`~tmt_geo.MeshAttention`: `heads`, `edge_dim`, `decay` (a module is
            copied for each layer), `latent`, ...

    Shapes:
        - **input:** nodes :math:`(|\mathcal{V}|, F_{in})`, edges :math:`(2, |\mathcal{E}|)`
        - **output:** nodes :math:`(|\mathcal{V}|, F_{out})`, or with `pool` graphs :math:`(|\mathcal{B}|, F_{out})`

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import torch
        >>> from tmt_geo import MeshGNN
        >>> model = MeshGNN(16, 32, num_layers=2, out_channels=3, k=4, heads=4, pool="mean")
        >>> x, batch = torch.randn(10, 16), torch.arange(10) // 5
        >>> model(x, batch=batch).shape  # by the mesh alone
        torch.Size([2, 3])
        >>> model(x, torch.randint(5, (2, 20)), batch=batch).shape  # by the mesh and the edges
        torch.Size([2, 3])
    """

    lin: nn.Linear
    gates: list[ExitGate]  # a ModuleList, whose items have no type of their own
    supports_edge_weight = False
    supports_edge_attr = True

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int | None = None,
        dropout: float = 0.0,
        act: str | Callable | None = "relu",
        act_first: bool = False,
        act_kwargs: dict[str, Any] | None = None,
        norm: str | Callable | None = None,
        norm_kwargs: dict[str, Any] | None = None,
        jk: str | None = None,
        *,
        k: int = 0,
        metric: str = "cosine",
        causal: bool = False,
        pool: str | Aggregation | list | None = None,
        exit_rule: str | None = None,
        exit_budget: float = 0.5,
        exit_threshold: float = 0.85,
        attention_dropout: float = 0.0,
        **kwargs: Any,
    ):
        check_counts(hidden_channels=hidden_channels, num_layers=num_layers, out_channels=out_channels)
        check_counts(0, k=k)
        check_shares(dropout=dropout, attention_dropout=attention_dropout)
        check_flags(causal=causal)
        check_options(max(k, 1), metric, "auto", 0)
        for option in ("flow", "concat"):
            if option in kwargs:
                raise ValueError(f"{option!r} is no option of MeshGNN (got {kwargs[option]!r})")
        gates = exit_gates(hidden_channels, num_layers, exit_rule, exit_budget, exit_threshold, by_batch=not causal)
        if jk is None and (pool is not None or exit_rule is not None):
            jk = "last"
        super().__init__(
            in_channels, hidden_channels, num_layers, out_channels, dropout, act, act_first, act_kwargs, norm,
            norm_kwargs, jk, causal=causal, attention_dropout=attention_dropout, **kwargs,
        )  # fmt: skip
        self.k = k
        self.metric = metric
        self.causal = causal
        self.pool = None
        if pool is not None:
            self.pool = aggregation_resolver(pool)
            channels = self.lin.in_features
            if isinstance(self.pool, MultiAggregation):
                channels = self.pool.get_out_channels(channels)
            channels = getattr(self.pool, "out_channels", None) or channels  # of Set2Set and recurrent ones
            self.lin = nn.Linear(channels, self.out_channels)
        self.gates = nn.ModuleList(gates)  # type: ignore[assignment]  # see above

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> MeshAttention:
        """A layer; the one that maps to the output averages its heads, as in PyG's GAT."""
        heads = kwargs.pop("heads", 1)
        kwargs["dropout"] = kwargs.pop("attention_dropout")
        kwargs["decay"] = copy.deepcopy(kwargs.get("decay"))  # a module for each layer
        if getattr(self, "_is_conv_to_out", False):
            return MeshAttention(in_channels, out_channels, heads, concat=False, **kwargs)
        check_counts(heads=heads)
        if out_channels % heads:
            raise ValueError(f"'heads' must divide 'hidden_channels' (got {heads} heads for {out_channels} channels)")
        return MeshAttention(in_channels, out_channels // heads, heads, **kwargs)

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget what the gates observed."""
        super().reset_parameters()
        for gate in self.gates:
            gate.reset_parameters()
        if self.pool is not None:
            self.pool.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | None = None,
        *,
        edge_attr: Tensor | None = None,
        edge_time: Tensor | None = None,
        time: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        r"""Run the model.

        Args:
            x (Tensor): Node features :math:`(|\mathcal{V}|, F_{in})`.
            edge_index (Tensor, SparseTensor or Mesh, optional): The edges; may be left out where there is a mesh.
            edge_attr (Tensor, optional): Edge features :math:`(|\mathcal{E}|, D)`; those of the mesh are zero.
            edge_time (Tensor, optional): When each edge happened :math:`(|\mathcal{E}|)`; an edge of the mesh when its
                source did. See :class:`~tmt_geo.MeshAttention`.
            time (Tensor, optional): Time of each node :math:`(|\mathcal{V}|)`, for the decay and `causal`.
            batch (Tensor, optional): Graph of each node :math:`(|\mathcal{V}|)`, for mesh, pooling and normalisation.
            batch_size (int, optional): The number of graphs, where the last may be empty.

        Raises:
            ValueError: If there are neither edges nor a mesh, or an argument does not fit; it is named.
        """
        graph = self._input(x, edge_index, edge_attr, edge_time, time, batch, batch_size)
        plain = not self.k and not len(self.gates)
        states, _, statistics = (run_modules(self, x, graph), [], []) if plain else self._run(x, graph)
        if self.training:
            for gate, statistic in zip(self.gates, statistics, strict=True):
                gate.update_threshold(statistic)
        x = self.jk(states[1:]) if hasattr(self, "jk") else states[-1]
        x = x if self.pool is None else self.pool(x, graph.batch, dim_size=graph.batch_size)
        return self.lin(x) if hasattr(self, "lin") else x

    @torch.no_grad()
    def layer_graphs(
        self,
        x: Tensor,
        edge_index: Adj | None = None,
        *,
        edge_attr: Tensor | None = None,
        edge_time: Tensor | None = None,
        time: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> list[Data]:
        r"""Run the model and return each layer as a graph: its edges and their weights.

        Each is a :class:`~torch_geometric.data.Data` with the states that left the layer ``x``
        :math:`(|\mathcal{V}|, F)`, its edges ``edge_index`` :math:`(2, E)`, self-loops included, their
        ``attention`` and, where there is one, ``decay`` :math:`(E, H)`, which nodes were ``active``, with gates their
        ``confidence``, and ``time`` and ``batch`` where they are given. The model runs as in evaluation: no gradient
        flows, no gate moves, nothing is dropped. Arguments and errors are those of :meth:`forward`.
        """
        with evaluation_mode(self):
            graph = self._input(x, edge_index, edge_attr, edge_time, time, batch, None)
            states, traces, _ = self._run(x, graph, trace=True)
        fields = {name: part for name, part in (("time", time), ("batch", batch)) if part is not None}
        return [Data(x=left, **fields, **layer) for left, layer in zip(states[1:], traces, strict=True)]

    def _input(self, x: Tensor, edge_index: Adj | Mesh | None, *parts: Any) -> GraphInput:
        """The arguments of :meth:`forward`, checked."""
        if isinstance(x, Proxy):  # there is nothing to check yet
            self._check_by_layers("a tracer, as of 'to_hetero',")
            return GraphInput(edge_index, *parts)
        if edge_index is None and not self.k:
            raise ValueError("'edge_index' is needed where there is no mesh, k=0 (got None)")
        return graph_input(self.convs, x, edge_index, *parts)

    def _run(
        self, x: Tensor, graph: GraphInput, trace: bool = False
    ) -> tuple[list[Tensor], list[dict[str, Tensor]], list[Tensor]]:
        """All layers.

        Returns:
            The states that enter and leave each layer, what else each has computed, the statistics for the gates.
        """
        state, states, traces, statistics = NodeState(x), [x], [], []
        for i in range(self.num_layers):
            targets = state.active
            state, gated, edges, alpha = self._layer(i, state, graph, trace)
            states.append(state.x)
            if i < len(self.gates):  # where no node was active, nothing is added to what other ranks have
                statistics.append(x.new_empty(0) if gated is None else self.gates[i].statistic(gated))
            if trace:
                fields = layer_fields(self.convs[i], edges, alpha, targets, x.size(0))  # type: ignore[arg-type]  # a list
                traces.append(fields | ({} if state.confidence is None else {"confidence": state.confidence}))
        return states, traces, statistics

    def _layer(
        self, i: int, state: NodeState, graph: GraphInput, trace: bool
    ) -> tuple[NodeState, GateOutput | None, EdgeList | Mesh, Tensor]:
        """One layer, for the nodes still active, and the gate behind it.

        Returns:
            The state behind it, the output of the gate, the edges attended over and their weights.
        """
        conv, x, targets = self.convs[i], state.x, state.active
        if targets is not None and targets.numel() == 0:
            nothing = EdgeList(targets.new_empty(2, 0), lag=None if conv.decay is None else x.new_empty(0))
            return state, None, nothing, x.new_empty(0, conv.heads)
        if targets is None:
            query, key, value = conv.projections(x, x)
        else:
            key, value = state.project_kv(
                lambda nodes: conv.key_value(x if nodes is None else x.index_select(0, nodes))
            )
            query = conv.query(x.index_select(0, targets))
        edges: EdgeList | Mesh
        if self.k:
            mesh = knn_graph(
                x.detach(), self.k, graph.batch, time=graph.time, causal=self.causal, metric=self.metric,
                targets=targets,
            )  # fmt: skip
            edges, added = graph.joined(mesh, self.causal, trace)
        else:
            edges, added = graph.given, 0
        h, edges, alpha = conv.attend(query, key, value, edges, graph.time, targets=targets, num_added=added)
        if conv.lin_skip is not None:
            h = h + conv.lin_skip(state.of_active(x))
        if i < self.num_layers - 1 or self.jk_mode is not None:
            own = graph.batch if targets is None else graph.of(targets)
            h = behind_convolution(self, h, self.norms[i], own, graph.batch_size)
        state, gated = state.update(h, self.gates[i] if i < len(self.gates) else None, key=key, value=value)
        return state, gated, edges, alpha

    def inference(self, *args: Any, **kwargs: Any) -> Tensor:
        """Layer-wise inference with a loader, as PyG's models have it; for given edges alone.

        Raises:
            ValueError: With a mesh, gates or pooling, which need all nodes at once.
        """
        self._check_by_layers("'inference' by layers")
        return super().inference(*args, **kwargs)

    def _check_by_layers(self, what: str) -> None:
        if self.k or len(self.gates) or self.pool is not None:
            raise ValueError(f"{what} needs k=0 and neither gates nor pooling (got one of them)")
