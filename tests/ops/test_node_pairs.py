import pytest
import torch

from tmt_geo.ops.node_pairs import node_pairs, rows_of_edges


@pytest.mark.parametrize("graphs", [None, 1, 4])
@pytest.mark.parametrize("timed", [False, True])
def test_all_pairs_of_a_graph_target_by_target(graphs, timed):
    n = 11
    batch = None if graphs is None else torch.randint(graphs, (n,)) * 2  # those of odd number are empty
    time = torch.randint(4, (n,)) if timed else None
    expected = {
        (j, i)
        for i in range(n)
        for j in range(n)
        if (batch is None or batch[i] == batch[j]) and (time is None or (time[j], j) <= (time[i], i))
    }
    pairs = node_pairs(n, batch, time=time)
    assert set(map(tuple, pairs.t().tolist())) == expected and pairs.size(1) == len(expected)
    assert (pairs[1].diff() >= 0).all()


def test_no_nodes_and_wrong_arguments():
    assert node_pairs(0).shape == node_pairs(0, torch.zeros(0, dtype=torch.long)).shape == (2, 0)
    for options, message in (
        ({"batch": torch.zeros(2)}, "'batch' must have one entry a node"),
        ({"batch": torch.zeros(3)}, "'batch' must hold integers"),
        ({"time": torch.tensor([0.0, float("nan"), 1.0])}, "'time' must be a number everywhere"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*\(got .*\)$"):
            node_pairs(3, **options)


@pytest.mark.parametrize("count", [40, 400])  # fewer, and more than there are pairs of nodes
def test_rows_are_those_of_the_edge_between_two_nodes_or_zero(count):
    n, known = 7, torch.randint(7, (2, 30))  # some twice
    rows = torch.randn(30, 3, dtype=torch.float64, requires_grad=True)
    wanted = torch.randint(n, (2, count))
    by_ends = {}
    for ends, row in zip(known.t().tolist(), rows, strict=True):
        by_ends.setdefault(tuple(ends), row)
    expected = torch.stack([by_ends.get(tuple(ends), torch.zeros(3).double()) for ends in wanted.t().tolist()])
    out = rows_of_edges(rows, known, wanted, n)
    assert torch.equal(out, expected)
    direction = torch.randn_like(out)
    got, want = (torch.autograd.grad(part, rows, direction)[0] for part in (out, expected))
    torch.testing.assert_close(got, want)
    assert rows_of_edges(rows[:0], known[:, :0], wanted, n).eq(0).all()
    assert rows_of_edges(rows, known, wanted[:, :0], n).shape == (0, 3)
