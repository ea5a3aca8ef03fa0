"""How well the search of more nodes than memory finds neighbors, and what memory it holds.

    python -m benchmarks.on_disk

Features are 64 channels in a file: sines of 8 or 16 hidden numbers a node, and noise of a tenth of their size. A fresh
process maps the file and finds the 8 nearest of every node, or of some of the nodes, among all with
``knn_graph(..., backend="faiss")``, on one thread. Recall is the share of the 8 exact neighbors that is found, for a
sample of these nodes, by distances of all pairs in float64. Memory is what the process holds at most beyond what it
held before the search: its own (anonymous) memory, which the system cannot take back; and with it the pages of mapped
files, which the system takes back where others need room. Seconds are those of the processor. Rows that the results
hold are not measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from tmt_geo import Mesh, knn_graph
from tmt_geo.compare.markdown import markdown_table

CHANNELS, NOISE = 64, 0.1
ROWS = (
    {"nodes": 100_000, "hidden": 8, "searched": 100_000},
    {"nodes": 100_000, "hidden": 16, "searched": 100_000},
    {"nodes": 1_000_000, "hidden": 8, "searched": 20_000},
)
K, SAMPLE, BLOCK = 8, 500, 2**14
RESULTS = Path(__file__).parent / "results" / "speed" / "on_disk.json"
KINDS = ("RssAnon", "RssFile", "RssShmem")  # parts of the resident memory of a process, as Linux names them


def write_features(path: Path, nodes: int, hidden: int) -> None:
    """Write them a block at a time."""
    draw = torch.Generator().manual_seed(0)
    to_channels, phase = 0.5 * torch.randn(hidden, CHANNELS, generator=draw), torch.randn(CHANNELS, generator=draw)
    with path.open("wb") as file:
        for first in range(0, nodes, BLOCK):
            size = min(BLOCK, nodes - first)
            x = torch.sin(torch.randn(size, hidden, generator=draw) @ to_channels + phase)
            file.write((x + NOISE * torch.randn(size, CHANNELS, generator=draw)).numpy().tobytes())


def mapped(path: Path, nodes: int) -> Tensor:
    """The features as a tensor that stays in its file."""
    return torch.from_file(str(path), size=nodes * CHANNELS, dtype=torch.float32).view(nodes, CHANNELS)


def held() -> dict[str, int]:
    """Bytes of memory that this process holds now, by kind."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: 1024 * int(words[1]) for words in lines if words and words[0][:-1] in KINDS}


class Peak(threading.Thread):
    """Looks a hundred times a second how much memory more than at first is held."""

    def __init__(self):
        super().__init__(daemon=True)
        self.first, self.own, self.whole, self.stopped = held(), 0, 0, threading.Event()

    def run(self) -> None:
        """Look until it is stopped."""
        while not self.stopped.wait(0.01):
            now = held()
            self.own = max(self.own, now["RssAnon"] - self.first["RssAnon"])
            self.whole = max(self.whole, sum(now.values()) - sum(self.first.values()))


def search(path: Path, plan: dict, result: Path) -> None:
    """Search in a process of its own; its figures and the neighbors of the sample go to a file."""
    torch.set_num_threads(1)
    knn_graph(torch.randn(500, CHANNELS), K, backend="faiss")  # what is loaded once
    peak, targets = Peak(), torch.arange(0, plan["nodes"], plan["nodes"] // plan["searched"])
    peak.start()
    start = time.process_time()
    mesh = knn_graph(mapped(path, plan["nodes"]), K, backend="faiss", targets=targets)
    seconds = time.process_time() - start
    peak.stopped.set()
    peak.join()
    some = torch.randperm(targets.numel(), generator=torch.Generator().manual_seed(1))[:SAMPLE]
    row = {"seconds": seconds, "own_bytes": peak.own, "whole_bytes": peak.whole}
    torch.save((row, mesh.restrict(targets[some])), result)


def exact(x: Tensor, some: Tensor) -> Tensor:
    """The nearest nodes of some of all, by distances of all pairs in float64, a block of nodes at a time (T, K)."""
    query = x[some].double()
    best, nearest = torch.full((some.numel(), K), float("inf"), dtype=torch.float64), some.new_zeros(some.numel(), K)
    for first in range(0, x.size(0), BLOCK):
        rows = x[first : first + BLOCK].double()
        place = torch.arange(first, first + rows.size(0))
        distance = torch.cdist(query, rows).masked_fill_(some.unsqueeze(1) == place, float("inf"))
        best, among = torch.cat([best, distance], dim=1).topk(K, largest=False)
        nearest = torch.cat([nearest, place.expand(some.numel(), -1)], dim=1).gather(1, among)
    return nearest


def recall(mesh: Mesh, nearest: Tensor) -> float:
    """The share of the nearest nodes (T, K) of its targets that is in a mesh."""
    hit = (mesh.table.unsqueeze(2) == nearest.unsqueeze(1)) & mesh.mask.unsqueeze(2)
    return float(hit.any(1).double().mean())


def measure(plan: dict) -> dict:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        path, result = Path(folder) / "features", Path(folder) / "result"
        write_features(path, plan["nodes"], plan["hidden"])
        process = multiprocessing.get_context("spawn").Process(target=search, args=(path, plan, result))
        process.start()
        process.join()
        figures, found = torch.load(result, weights_only=False)
        nearest = exact(mapped(path, plan["nodes"]), found.target_index)
        return plan | {"data_bytes": path.stat().st_size, "recall": recall(found, nearest)} | figures


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = [
        [
            f"{row['nodes']:,}",
            f"{row['searched']:,}",
            str(row["hidden"]),
            f"{row['recall']:.3f}",
            f"{row['seconds']:.0f}",
        ]
        + [f"{row[name] / 2**20:.0f}" for name in ("data_bytes", "own_bytes", "whole_bytes")]
        for row in rows
    ]
    head = ["nodes", "of which search", "hidden numbers", "recall@8", "seconds", "features, MiB", "own memory, MiB"]
    return markdown_table([*head, "with pages of files, MiB"], lines)


def main() -> None:
    """Measure the rows that are missing, write all and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, help="the rows of so many nodes alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.results.read_text(encoding="utf-8"))["rows"] if arguments.results.exists() else []
    for plan in ROWS:
        if arguments.nodes in (None, plan["nodes"]) and not any(plan.items() <= row.items() for row in rows):
            rows = sorted([*rows, measure(plan)], key=lambda row: (row["nodes"], row["hidden"]))
            result = {"device": platform.processor() or platform.machine(), "torch": torch.__version__}
            result |= {"faiss": version("faiss-cpu"), "threads": 1, "k": K, "channels": CHANNELS, "sample": SAMPLE}
            arguments.results.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
