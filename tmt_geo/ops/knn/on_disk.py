"""The search of the faiss package by an inverted file on disk: approximate, for more nodes than memory holds.

After Jégou, Douze and Schmid, "Product quantization for nearest neighbor search" (TPAMI 2011), section IV, with rows
in float16, less the centre of their cell. The cells are those of all nodes, of late ones too, and so whom a node finds
depends on what comes after it: there is no causal mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from tmt_geo.extras import needs_extra
from tmt_geo.ops.knn.exact import without
from tmt_geo.ops.knn.scores import unit_rows
from tmt_geo.ops.mesh import Mesh

CELLS = 4  # times the square root of the number of nodes
SAMPLE, STEPS = 40, 10  # nodes a cell, of which so many steps of k-means make the cells
OPENED = 32  # cells that a query searches
NUMBERS = 2**20  # of features that are read at once
PARTS, LEAST = 32, 2**22  # parts of the file at most, each of which is once in memory, and numbers in one at least


def check_on_disk(x: Tensor, batch: Tensor | None, time: Tensor | None, causal: bool) -> None:
    """Raise a `ValueError` if one of these arguments of `knn_graph` does not go with this backend."""
    if causal:
        raise ValueError("backend 'faiss' has no causal mode (got causal=True)")
    for name, given in (("batch", batch), ("time", time)):
        if given is not None:
            raise ValueError(f"backend 'faiss' searches one graph without times (got a {name!r})")
    if not x.size(1):
        raise ValueError("backend 'faiss' needs an 'x' of at least one channel (got none)")


def search_on_disk(x: Tensor, k: int, loop: bool, metric: str, targets: Tensor | None) -> Mesh:
    """Search features (N, F), which may be mapped from a file, a block at a time.

    Raises:
        MissingExtra: If faiss is not installed.
    """
    nodes = torch.arange(x.size(0), device=x.device) if targets is None else targets
    table = nodes.new_full((nodes.numel(), k - loop + 1), -1)
    if nodes.numel():
        with TemporaryDirectory(prefix="tmt-geo-", ignore_cleanup_errors=True) as folder:
            file = _InvertedFile(x, metric, Path(folder))
            for block in _blocks(0, nodes.numel(), x.size(1)):
                table[block] = file.search(nodes[block], table.size(1)).to(table.device)
    table, mask = without(table, table >= 0, nodes)
    if loop:
        table, mask = torch.cat([nodes.unsqueeze(1), table], dim=1), pad(mask, (1, 0), value=True)
    return Mesh(table.masked_fill_(~mask, 0), mask, x.size(0), targets)


class _InvertedFile:
    """All nodes by cells, in files of this folder that are mapped into memory."""

    def __init__(self, x: Tensor, metric: str, folder: Path):
        with needs_extra("backend 'faiss'", "disk"):
            import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        self.x, self.cosine, (num_nodes, channels) = x, metric == "cosine", x.shape
        few = x[_spread(num_nodes, _at_once(channels))].double()
        self.centre, self.size = few.mean(0), float(few.std(correction=0)) or 1.0

        num_cells = max(1, min(int(CELLS * num_nodes**0.5), num_nodes // SAMPLE))
        kind = faiss.METRIC_INNER_PRODUCT if self.cosine else faiss.METRIC_L2
        cells, half = faiss.IndexFlat(channels, kind), faiss.ScalarQuantizer.QT_fp16
        self.index = faiss.IndexIVFScalarQuantizer(cells, channels, num_cells, half, kind)
        self.index.cp.niter, self.index.cp.min_points_per_centroid, self.index.nprobe = STEPS, 1, OPENED
        self.index.train(self._sample(SAMPLE * num_cells))

        self.parts, pointers = [], faiss.InvertedListsPtrVector()
        step = max(-(-num_nodes // PARTS), LEAST // channels)
        for first in range(0, num_nodes, step):
            self._fill(first, min(first + step, num_nodes))
            path = str(folder / str(first))
            faiss.write_index(self.index, path)
            part = faiss.read_index(path, faiss.IO_FLAG_MMAP)
            part.invlists.prefetch_nthread = 0
            self.parts.append(part)  # which owns its lists
            pointers.push_back(part.invlists)
        self.index.reset()
        self.lists = faiss.HStackInvertedLists(pointers.size(), pointers.data())
        self.index.replace_invlists(self.lists, False)

    def _sample(self, count: int) -> np.ndarray:
        """Rows of so many nodes, or of all."""
        nodes = _spread(self.x.size(0), count)
        rows = np.empty((nodes.numel(), self.x.size(1)), np.float32)
        for block in _blocks(0, nodes.numel(), self.x.size(1)):
            rows[block] = self.rows(nodes[block])
        return rows

    def _fill(self, start: int, stop: int) -> None:
        """Let the index hold the nodes from one to another, and no others."""
        self.index.reset()
        for block in _blocks(start, stop, self.x.size(1)):
            self.index.add_with_ids(self.rows(block), np.arange(block.start, block.stop))

    def rows(self, nodes: Tensor | slice) -> np.ndarray:
        """Features of some nodes as they are compared: of unit length, or around zero and of the size of 1."""
        x = self.x[nodes].detach().cpu()
        x = unit_rows(x) if self.cosine else (x.double() - self.centre.cpu()) / self.size
        return x.float().numpy()

    def search(self, nodes: Tensor, k: int) -> Tensor:
        """The `k` nearest of each of these nodes (T, k), itself included; -1 where the cells hold too few."""
        return torch.from_numpy(self.index.search(self.rows(nodes), k)[1])


def _blocks(start: int, stop: int, channels: int) -> Iterator[slice]:
    """The nodes from one to another, as many at once as are read."""
    step = _at_once(channels)
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


def _at_once(channels: int) -> int:
    """How many nodes are read at once."""
    return max(1, NUMBERS // channels)


def _spread(num_nodes: int, count: int) -> Tensor:
    """So many nodes, or all: one at random from each of as many stretches."""
    count = min(count, num_nodes)
    where = torch.arange(count) + torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (where * (num_nodes / count)).long()
