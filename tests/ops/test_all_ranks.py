"""What all ranks have seen, against plain sums and joined lists, by processes that gloo connects."""

import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist

from tmt_geo.ops.all_ranks import rows_of_ranks, sum_of_ranks

SIZES = (3, 0, 5)  # a rank may have nothing


def own(rank):
    return torch.arange(SIZES[rank], dtype=torch.float64) + 10 * rank


def work(rank, address, results):
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=len(SIZES))
    results.put((rank, rows_of_ranks(own(rank)).tolist(), sum_of_ranks(torch.tensor([1.0, rank])).tolist()))
    results.close()
    results.join_thread()
    dist.destroy_process_group()


def test_one_process_has_what_it_is_given():
    x = torch.randn(4)
    assert rows_of_ranks(x) is x and sum_of_ranks(x) is x


@pytest.mark.skipif(os.environ.get("TMT_FULL_TEST") != "1", reason="starts three processes; set TMT_FULL_TEST=1")
def test_ranks_of_any_size(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path / 'ranks'}"
    ranks = [context.Process(target=work, args=(rank, address, results)) for rank in range(len(SIZES))]
    for process in ranks:
        process.start()
    found = [results.get(timeout=300) for _ in ranks]
    for process in ranks:
        process.join()
    joined = [value for rank in range(len(SIZES)) for value in own(rank).tolist()]
    assert sorted(found) == [(rank, joined, [3.0, 3.0]) for rank in range(len(SIZES))]


def test_a_group_of_one_rank_reads_as_one_process(tmp_path):
    """The same calls as of several ranks, in this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rank'}", rank=0, world_size=1)
    try:
        for size in (4, 0):
            x = torch.randn(size)
            assert torch.equal(rows_of_ranks(x), x) and torch.equal(sum_of_ranks(x.clone()), x)
    finally:
        dist.destroy_process_group()
