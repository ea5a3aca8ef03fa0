"""Which edges come from the past: the definition, and the cases in doubt."""

import pytest
import torch

from tmt_geo.ops.naive.temporal import past_edges as naive_past_edges
from tmt_geo.ops.temporal import edge_lags, past_edges, wide_times


@pytest.mark.parametrize("number", [torch.long, torch.double])
@pytest.mark.parametrize("edge_timed", [False, True])
@pytest.mark.parametrize("two_sets", [False, True])
def test_past_edges_match_naive(number, edge_timed, two_sets):
    edge_index, time = torch.randint(9, (2, 60)), torch.randint(4, (9,)).to(number)
    time = (time, torch.randint(4, (9,)).to(number)) if two_sets else time
    edge_time = torch.randint(4, (60,)).to(number) if edge_timed else None
    past = past_edges(edge_index, time, edge_time)
    assert torch.equal(past, naive_past_edges(edge_index, time, edge_time))
    assert past.any() and not past.all()


def test_at_one_time_the_lower_index_is_the_source_and_no_node_its_own():
    edge_index, same = torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.zeros(2)
    assert past_edges(edge_index, same).tolist() == [True, False, False]
    assert past_edges(edge_index, (same, same)).tolist() == [False, False, False]
    assert past_edges(edge_index, torch.tensor([2.0, 1.0])).tolist() == [False, True, False]


def test_an_event_has_edges_from_only_earlier_events():
    edge_index, time = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]), torch.tensor([9.0, 2.0])
    assert past_edges(edge_index, time, torch.tensor([1.0, 2.0, 3.0, 0.0])).tolist() == [True, False, False, True]


def test_tables_are_edges_too():
    table, time = torch.tensor([[2, 1], [0, 2], [0, 1]]), torch.tensor([0.0, 1.0, 2.0])
    edges = torch.stack([table, torch.arange(3).unsqueeze(1).expand(3, 2)])
    assert past_edges(edges, time).tolist() == [[False, False], [True, False], [True, True]]


NUMBERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.half, torch.bfloat16, torch.double]


@pytest.mark.parametrize("other", NUMBERS, ids=str)
@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_lags_and_order_are_those_of_python_numbers(number, other):
    """At most 127, so that all types hold them, and none their differences but for a wider one."""
    edge_index, then, now = torch.randint(9, (2, 60)), torch.randint(128, (9,)), torch.randint(128, (9,))
    edge_time = torch.randint(128, (60,))
    pair, ends = (then.to(number), now.to(other)), edge_index.t().tolist()
    assert edge_lags(edge_index, pair).tolist() == [int(now[i]) - int(then[j]) for j, i in ends]
    assert past_edges(edge_index, pair).tolist() == [int(then[j]) < int(now[i]) for j, i in ends]
    lags = edge_lags(edge_index, now.to(number), edge_time.to(other)).tolist()
    assert lags == [int(now[i]) - int(edge_time[e]) for e, (_, i) in enumerate(ends)]


def test_both_a_timestamp_and_a_float_are_held():
    whole, part = wide_times(torch.tensor([2**53 - 1]), torch.tensor([0.5], dtype=torch.half))
    assert whole.dtype == part.dtype == torch.double and int(whole) == 2**53 - 1 and float(part) == 0.5
    assert wide_times(torch.tensor([1], dtype=torch.uint8))[0].dtype == torch.int64
    assert wide_times(torch.tensor([1.0], dtype=torch.bfloat16))[0].dtype == torch.float32
