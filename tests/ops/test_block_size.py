import torch

from tmt_geo.ops import edges
from tmt_geo.ops.block_size import GPU, block_size
from tmt_geo.ops.knn import centred, contenders, knn_graph, scores


def test_a_gpu_gets_large_blocks_and_a_cpu_those_of_its_caches():
    assert block_size(100, torch.device("cpu")) == 100
    assert block_size(100, torch.device("cuda")) == GPU
    assert block_size(2 * GPU, torch.device("cuda", 1)) == 2 * GPU


def test_the_size_of_blocks_does_not_show(monkeypatch):
    x, batch = torch.randn(700, 16), torch.arange(700) // 300
    x[::7] = x[0]  # ties, which the definition decides
    x[1::3] = x[1] + 1e-8 * torch.randn(233, 16)  # and what ties but for rounding
    weight, source = torch.rand(900, 2), torch.randint(700, (900,))
    sorted_edges = edges.Edges.from_sorted(source, torch.randint(700, (900,)).sort().values, 700, 700)

    def results():
        meshes = [knn_graph(x, 6, batch, causal=causal).edge_index for causal in (False, True)]
        rows = x.view(700, 2, 8)
        return [*meshes, edges.sddmm(rows, rows, sorted_edges), edges.spmm(weight, rows, sorted_edges)]

    small = results()
    for module in (centred, contenders, scores, edges):
        monkeypatch.setattr(module, "block_size", lambda on_cpu, device: GPU)
    large = results()
    for module in (centred, contenders, scores, edges):
        monkeypatch.setattr(module, "block_size", lambda on_cpu, device: 40)
    for some in (large, results()):
        assert all(torch.equal(a, b) for a, b in zip(small[:2], some[:2], strict=True))
        torch.testing.assert_close(some[2:], small[2:])
