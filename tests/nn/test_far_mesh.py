"""Remembered nodes: which are kept, which are found, and what is computed of them, against plain Python."""

import pytest
import torch

from tmt_geo.nn.far_mesh import FarMesh
from tmt_geo.nn.remembered import Remembered
from tmt_geo.ops.mesh_attention import table_attention
from tmt_geo.ops.remembered_edges import RememberedEdges


def numbered(rows):
    """Memory whose rows are numbers, from lists of different length."""
    width = max(map(len, rows))
    grid = torch.tensor([row + [-1.0] * (width - len(row)) for row in rows]).double()
    size = torch.tensor([len(row) for row in rows])
    return Remembered(grid[..., None, None], grid[..., None, None] + 100, grid[..., None], size)


def lists(memory):
    """The numbers of each sequence, the same in all three parts."""
    found = []
    for row, size in enumerate(memory.size.tolist()):
        key, value, index = (part[row, :size].flatten().tolist() for part in memory[:3])
        assert key == index == [number - 100 for number in value]
        found.append(key)
    return found


@pytest.mark.parametrize("old", [[[1.0, 2.0], [3.0, 4.0]], [[1.0], [3.0, 4.0, 5.0]], [[], [3.0]]], ids=str)
@pytest.mark.parametrize("kept", [[9, 9], [3, 3], [1, 4], [0, 2], [0, 0]], ids=str)
def test_later_nodes_come_behind_the_last_of_each_sequence(old, kept):
    new = [[6.0, 7.0], [8.0, 9.0]]
    made = numbered(old).extended(numbered(new))
    both = [before + after for before, after in zip(old, new, strict=True)]
    assert lists(made) == both
    assert lists(made.last(torch.tensor(kept))) == [
        row[len(row) - min(most, len(row)) :] for row, most in zip(both, kept, strict=True)
    ]
    assert lists(made.select(torch.tensor([1]))) == both[1:]


@pytest.mark.parametrize("skip", [0, 2])
def test_the_nearest_are_found_of_the_same_sequence_and_document(skip):
    torch.manual_seed(0)
    size, k = [7, 1, 30], 4
    unit = torch.nn.functional.normalize(torch.randn(3, 30, 5, dtype=torch.double), dim=-1)
    memory = Remembered(torch.randn(3, 30, 1, 2).double(), torch.randn(3, 30, 1, 2).double(), unit, torch.tensor(size))
    row = torch.tensor([0, 0, 1, 2, 2, 2])
    query = torch.nn.functional.normalize(torch.randn(6, 5, dtype=torch.double), dim=-1)
    forgets = torch.tensor([False, True, False, False, False, True])
    far = FarMesh(8, 2, k).double()
    edges = far(torch.randn(6, 8).double(), query, row, memory, skip, forgets)
    table = edges.edges[0].source.view(6, k)
    for i in range(6):
        reach = 0 if forgets[i] else max(size[row[i]] - skip, 0)
        order = sorted(range(reach), key=lambda j: -float(query[i] @ unit[row[i], j]))[:k]
        found = [int(slot) - 30 * int(row[i]) for slot, there in zip(table[i], edges.mask[i], strict=True) if there]
        assert found == order
    assert str(far) == "FarMesh(k=4)"


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("shift", [True, False])
def test_one_softmax_over_near_and_far(shift, kv_heads):
    """Values and every gradient of the attention over two tables, against loops."""
    torch.manual_seed(1)
    heads, channels, targets, near, far, k = 4, 3, 5, 9, 11, 3

    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.double, requires_grad=True)

    query, key, value = leaf(targets, heads, channels), leaf(near, kv_heads, channels), leaf(near, kv_heads, channels)
    bias, own_bias = leaf(targets, heads), leaf(targets, 3, heads)
    weights = (leaf(kv_heads, channels), leaf(kv_heads, channels)) if shift else None
    far_key, far_value = (torch.randn(far, kv_heads, channels, dtype=torch.double) for _ in range(2))
    table, mask = torch.randint(near - 1, (targets, 2)), torch.rand(targets, 2) < 0.8
    far_table, far_mask = torch.randint(far - 1, (targets, k)), torch.rand(targets, k) < 0.7
    own = (leaf(targets, kv_heads, channels), leaf(targets, kv_heads, channels))
    edges = RememberedEdges(far_key, far_value, far_table, far_mask, bias)
    out, alpha = table_attention(
        query, key, value, table, mask, self_kv=own, shift_weight=weights, bias=own_bias, far=edges
    )

    def mixed(rows, j, h, which):
        row = rows[j, h]
        return row if weights is None else row + weights[which][h] * (rows[j + 1, h] - row)

    expected = []
    for i in range(targets):
        for h in range(heads):
            g = h // (heads // kv_heads)
            scored = [(query[i, h] @ own[0][i, g] / channels**0.5 + own_bias[i, 2, h], own[1][i, g])]
            for e in range(2):
                if mask[i, e]:
                    product = query[i, h] @ mixed(key, table[i, e], g, 0) / channels**0.5
                    scored.append((product + own_bias[i, e, h], mixed(value, table[i, e], g, 1)))
            for e in range(k):
                if far_mask[i, e]:
                    product = query[i, h] @ mixed(far_key, far_table[i, e], g, 0) / channels**0.5
                    scored.append((product + bias[i, h], mixed(far_value, far_table[i, e], g, 1)))
            weight = torch.stack([score for score, _ in scored]).softmax(0)
            expected.append(sum(w * row for w, (_, row) in zip(weight, scored, strict=True)))
    expected = torch.stack(expected).view(targets, heads, channels)
    torch.testing.assert_close(out, expected)
    assert alpha.shape == (targets, 3, heads) and (alpha.sum(1) < 1).any()
    leaves = [query, key, value, bias, own_bias, *own, *(weights or ())]
    probe = torch.randn_like(out)
    found = torch.autograd.grad((out * probe).sum(), leaves)
    for mine, right in zip(found, torch.autograd.grad((expected * probe).sum(), leaves), strict=True):
        torch.testing.assert_close(mine, right)
