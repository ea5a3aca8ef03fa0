"""How well and how quickly each search finds the neighbors in the states of a trained model.

    python -m benchmarks.recall --data wikitext-2

A small model is trained once, without exits, and reads one long text with exact search; what enters each of its layers
is then searched in every way. Its states are kept in `--out`. Recall is the share of the 8 exact neighbors that is
found; seconds are those of one search, in processor time with one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from tmt_geo.compare.markdown import markdown_table
from tmt_geo.data import load_text, token_stream, tokenize_blocks, train_tokenizer
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.nn.mesh_index import MeshIndex
from tmt_geo.ops.knn import search, unit_rows
from tmt_geo.ops.layout import DenseLayout
from tmt_geo.train import TrainConfig, train_model

SIZE = {"d_model": 128, "n_layers": 4, "n_heads": 4, "max_seq_len": 256, "dropout": 0.0}
VOCAB_SIZE = 4096
LENGTHS = (4096, 16384, 65536)
CACHE = Path(tempfile.gettempdir()) / "tmt-geo" / "recall"
K, WINDOW = 8, 8
DIMS, PROJECTED = (16, 32, 64), 16384  # how well a projection does hardly depends on the length: spare the longest
RESULTS = Path(__file__).parent / "results" / "speed" / "recall.json"

Found = tuple[Tensor, Tensor]  # neighbors (N, k) and which of them exist


def states(data: str, out: Path, steps: int) -> Tensor:
    """What enters each layer of a trained model that reads as many tokens as the longest row (L, N, F)."""
    path = out / f"states-{Path(data).name}-{steps}.pt"
    if path.exists():
        return torch.load(path)
    splits = load_text(data)
    tokenizer = train_tokenizer(splits.train, vocab_size=VOCAB_SIZE)
    torch.manual_seed(0)
    # As when this was measured.
    parts = {
        "exit": False, "window": 8, "gated_heads": False, "gated_streams": False, "memory_anchors": 16,
        "index_dim": None,
    }  # fmt: skip
    model = TMTModel(TMTConfig(vocab_size=len(tokenizer), **parts, **SIZE))
    blocks = tokenize_blocks(splits.train, tokenizer, SIZE["max_seq_len"])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as run:
        train_model(model, None, blocks, None, TrainConfig(out=run, steps=steps, threads=1))
    stream = token_stream([*splits.valid, *splits.train], tokenizer)[: max(LENGTHS)]
    layout = DenseLayout.uniform(1, stream.numel())
    layout = replace(layout, slot_time=layout.slot_time.double() / SIZE["max_seq_len"])
    with torch.no_grad():
        x = model.eval().get_input_embeddings()(stream)
        seen = model.backbone.encoder.run(x, layout, hidden_states=True).hidden_states
    torch.save(torch.stack(seen[:-1]), path)
    return torch.load(path)


def find(features: Tensor, **options) -> Found:
    """Search in one long graph for every node, without the few nodes before it, which a window has."""
    rank = torch.arange(features.size(0))
    grid, row, sizes = features.unsqueeze(0), torch.zeros_like(rank), torch.tensor([rank.numel()])
    return search(features, grid, row, rank, sizes, K, skip=WINDOW, **options)


def recall(found: Found, exact: Found) -> float:
    """The share of the exact neighbors that is found."""
    hit = (found[0].unsqueeze(2) == exact[0].unsqueeze(1)) & found[1].unsqueeze(2) & exact[1].unsqueeze(1)
    return float(hit.any(1).sum() / exact[1].sum())


def projected(x: Tensor, dim: int) -> Callable[[], Found]:
    """Exact search among a random projection of the states."""
    torch.manual_seed(0)
    index = MeshIndex(x.size(1), dim)
    return lambda: find(unit_rows(index(x)))


def measure(layers: Tensor) -> list[dict]:
    """One row for each layer and way to search (L, N, F)."""
    rows = []
    for layer, x in enumerate(layers):
        features = unit_rows(x)
        ways = {
            "exact": lambda features=features: find(features),
            "windows": lambda features=features: find(features, backend="windows"),
            "ivf": lambda features=features: find(features, backend="ivf"),
        }
        if layers.size(1) <= PROJECTED:
            ways |= {f"exact, {dim} of {x.size(1)} channels": projected(x, dim) for dim in DIMS}
        exact = None
        for name, way in ways.items():
            start = time.process_time()
            found = way()
            seconds = time.process_time() - start
            exact = found if exact is None else exact
            rows.append(
                {"nodes": layers.size(1), "layer": layer, "search": name, "recall": recall(found, exact)}
                | {"seconds": seconds}
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: list[dict]) -> str:
    """Recall in every layer, and the median time of a search, in Markdown."""
    layers = sorted({row["layer"] for row in rows})
    lines = []
    for nodes, name in dict.fromkeys((row["nodes"], row["search"]) for row in rows):
        own = {row["layer"]: row for row in rows if (row["nodes"], row["search"]) == (nodes, name)}
        cells = [f"{own[layer]['recall']:.3f}" if layer in own else "" for layer in layers]
        seconds = median(row["seconds"] for row in own.values())
        lines.append([f"{nodes:,}", name, *cells, f"{seconds:.2f}"])
    head = ["nodes", "search", *(f"recall, layer {layer}" for layer in layers), "seconds"]
    return markdown_table(head, lines)


def main() -> None:
    """Measure every way at every length, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wikitext-2")
    parser.add_argument("--out", type=Path, default=CACHE, help="where the states are kept")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    layers = states(arguments.data, arguments.out, arguments.steps)
    rows = [row for length in arguments.lengths for row in measure(layers[:, :length])]
    result = {"device": platform.processor() or platform.machine(), "torch": torch.__version__, "threads": 1}
    result |= {"steps": arguments.steps, "k": K, "window": WINDOW, "rows": rows}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
