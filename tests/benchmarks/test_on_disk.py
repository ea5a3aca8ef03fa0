"""The benchmark of the search on disk: what it takes for the truth, and the table in the documentation."""

import json
from pathlib import Path

import torch

from benchmarks import on_disk
from tmt_geo import knn_graph


def test_what_is_exact_is_what_the_exact_search_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "BLOCK", 50)
    path, some = tmp_path / "features", torch.randperm(230)[:20]
    on_disk.write_features(path, 230, hidden=3)
    x = on_disk.mapped(path, 230)
    assert path.stat().st_size == 230 * 64 * 4 and x.std() > 0.5
    mesh, nearest = knn_graph(x, 8, targets=some), on_disk.exact(x, some)
    assert on_disk.recall(mesh, nearest) == 1
    assert on_disk.recall(mesh, nearest.flip(0)) < 0.5
    nearest[:, 0] = some
    assert on_disk.recall(mesh, nearest) == 7 / 8


def test_the_page_has_the_table_of_the_results():
    rows = json.loads(on_disk.RESULTS.read_text(encoding="utf-8"))["rows"]
    assert on_disk.table(rows) in (Path(__file__).parents[2] / "docs" / "neighbors.md").read_text(encoding="utf-8")
