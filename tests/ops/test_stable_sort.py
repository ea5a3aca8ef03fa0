"""Sorted indices against PyTorch's stable sort."""

import pytest
import torch

from tmt_geo.ops.stable_sort import packed_sort, stable_sort


@pytest.mark.parametrize("size", [0, 1, 2, 3, 31, 1024, 1025, 40_000])
@pytest.mark.parametrize("most", [1, 3, 2**15, 2**44])
def test_it_is_the_stable_sort(size, most):
    index = torch.randint(most, (size,), generator=torch.Generator().manual_seed(size))
    kept = index.clone()
    for found, wanted in zip(stable_sort(index), index.sort(stable=True), strict=True):
        assert found.dtype == torch.int64 and torch.equal(found, wanted)
    assert torch.equal(index, kept)


def test_it_takes_a_row_of_edges_and_a_column():
    edges = torch.randint(7, (50, 2))
    for index in (edges[:, 1], edges.t()[0], edges[::2, 0]):
        assert torch.equal(torch.stack(stable_sort(index)), torch.stack(tuple(index.sort(stable=True))))


def test_its_shapes_are_known_to_a_compiler():
    torch.library.opcheck(packed_sort, (torch.randint(9, (20,)),))
