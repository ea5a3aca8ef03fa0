"""What a user writes, with annotations: `mypy --strict` has nothing to say against it. Checked, never run."""

from pathlib import Path

import torch
from torch import Tensor

from tmt_geo import Mesh, MeshAttention, MeshGNN, TMTConfig, TMTEncoder, TMTModel, TMTOutput, knn_graph
from tmt_geo.data import load_tokenizer, tokenize_blocks
from tmt_geo.train import TrainConfig, TrainResult, train_model


class Net(torch.nn.Module):
    """A convolution over the mesh of some points, and layers behind it."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = MeshAttention(3, channels, heads=4, concat=False, dropout=0.1)
        self.encoder = TMTEncoder(None, channels, 2, causal=False, heads=4, k=8)
        self.gnn = MeshGNN(channels, channels, 2, classes, k=4, pool="mean", exit_rule="budget")

    def forward(self, points: Tensor, batch: Tensor | None = None) -> Tensor:
        mesh: Mesh = knn_graph(points, k=6, batch=batch)
        x: Tensor = self.conv(points, mesh)
        x = self.encoder(x, batch=batch)
        out: Tensor = self.gnn(x, mesh.edge_index, batch=batch)
        return out


def fit(points: Tensor, target: Tensor) -> float:
    """One step."""
    model = Net(32, 4)
    optimizer = torch.optim.Adam(model.parameters())
    loss = torch.nn.functional.cross_entropy(model(points), target)
    loss.backward()
    optimizer.step()
    return loss.item()


def write(text: str, out: Path) -> str:
    """Train a small language model on a text, and let it go on."""
    tokenizer = load_tokenizer("gpt2")
    model = TMTModel(TMTConfig(vocab_size=len(tokenizer), d_model=256, n_heads=4, n_layers=4, graph_k=4))
    blocks = tokenize_blocks([text], tokenizer, 64)
    result: TrainResult = train_model(model, tokenizer, blocks, None, TrainConfig(out=out, steps=10))
    last: float = result.history[-1]["loss"]

    ids = torch.randint(model.config.d_model, (1, 8))
    output: TMTOutput = model(ids)
    if output.logits is not None and output.exit_masks is not None:
        print(last, output.logits.shape, output.exit_masks.float().mean())
    tokens = model.generate(ids, max_new_tokens=16, do_sample=False)
    assert isinstance(tokens, Tensor)
    return str(tokenizer.decode(tokens[0]))
