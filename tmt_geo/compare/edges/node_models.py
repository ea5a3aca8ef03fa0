"""The controls: attention among nodes, of the same size and with the same calls as the model of edges."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.data import Data
from transformers.models.llama import LlamaConfig, LlamaModel

from tmt_geo.data.problems import Problem


class NodeTransformer(nn.Module):
    """The Llama of transformers over the nodes in their order: causal, with rotary positions, without edges.

    What is asked of an edge is read from its target, which sees all that is no later.

    Args:
        problem: What it is asked, of edges; its graphs are of equal size, their nodes in the order of time.
        width: Channels.
        hidden: Units of the feed-forward networks.
        layers: Layers with weights of their own.
        rounds: How often all of them are applied.
        heads: Of attention.
    """

    def __init__(self, problem: Problem, width: int, hidden: int, *, layers: int = 1, rounds: int = 1, heads: int = 4):
        super().__init__()
        config = LlamaConfig(
            vocab_size=problem.node_kinds, hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers,
            num_attention_heads=heads, use_cache=False, attn_implementation="sdpa",
        )  # fmt: skip
        self.model = LlamaModel(config)
        self.model.layers = nn.ModuleList(list(self.model.layers) * rounds)
        config.num_hidden_layers = layers * rounds
        self.head = nn.Linear(width, problem.classes)

    def forward(self, data: Data) -> Tensor:
        """Logits of all edges."""
        states = self.model(input_ids=data.x.view(data.num_graphs, -1)).last_hidden_state
        return self.head(states).flatten(0, 1).index_select(0, data.edge_index[1])
