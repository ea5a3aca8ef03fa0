import pytest
import torch

from tmt_geo.ops.events import recent_events
from tmt_geo.ops.naive.events import recent_events as naive_recent_events
from tmt_geo.testing import largest_tensor


def event_edges(edge_index, time, num_recent):
    """The edges as a set of (earlier, later, relation)."""
    edges, relation = recent_events(edge_index, time, num_recent)
    found = list(zip(*edges.tolist(), relation.tolist(), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


def random_events(seed, num_users=6, num_events=40, num_times=12):
    """A multigraph with loops, events at one time, and times in any order."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(num_users, (2, num_events), generator=generator)
    return edge_index, torch.randint(num_times, (num_events,), generator=generator)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([(0, 1), (0, 2)], {(0, 1, 0)}, id="source from source"),
        pytest.param([(1, 0), (0, 2)], {(0, 1, 1)}, id="source from target"),
        pytest.param([(0, 1), (2, 0)], {(0, 1, 2)}, id="target from source"),
        pytest.param([(1, 0), (2, 0)], {(0, 1, 3)}, id="target from target"),
        pytest.param([(0, 1), (0, 1)], {(0, 1, 0), (0, 1, 3)}, id="again"),
        pytest.param([(0, 1), (1, 0)], {(0, 1, 1), (0, 1, 2)}, id="answer"),
        pytest.param([(0, 0), (0, 1)], {(0, 1, 0)}, id="loop from source"),
        pytest.param([(0, 0), (1, 0)], {(0, 1, 2)}, id="loop from target"),
        pytest.param([(1, 0), (0, 0)], {(0, 1, 1)}, id="loop"),
        pytest.param([(0, 0), (0, 0)], {(0, 1, 0)}, id="loop from loop"),
        pytest.param([(0, 1), (2, 3)], set(), id="strangers"),
    ],
)
def test_two_events(events, expected):
    edge_index = torch.tensor(events).t()
    assert event_edges(edge_index, torch.tensor([0.5, 0.6]), 10) == expected
    back = {(1 - j, 1 - i, relation) for j, i, relation in expected}
    assert event_edges(edge_index.flip(1), torch.tensor([0.6, 0.5]), 10) == back


def test_the_latest_events_before_a_time_are_chosen():
    time = torch.tensor([3, 1, 2, 2, 3, 0])
    edge_index = torch.tensor([[0] * 6, [1, 2, 3, 4, 5, 6]])
    edges, relation = recent_events(edge_index, time, 2)
    # Events 0 and 4 have no edge between them; of events 2 and 3 the higher index is the later.
    assert edges.t().tolist() == [[3, 0], [2, 0], [5, 1], [1, 2], [5, 2], [1, 3], [5, 3], [3, 4], [2, 4]]
    assert relation.dtype == torch.long and not relation.any()


@pytest.mark.parametrize("num_recent", [0, 1, 3, 100])
@pytest.mark.parametrize("seed", range(8))
def test_recent_events_agree_with_the_definition(seed, num_recent):
    edge_index, time = random_events(seed)
    for when in (time, time.double() / 7 - 1):
        edges, relation = recent_events(edge_index, when, num_recent)
        naive_edges, naive_relation = naive_recent_events(edge_index, when, num_recent)
        assert torch.equal(edges, naive_edges) and torch.equal(relation, naive_relation)


def test_the_order_of_the_events_does_not_matter():
    edge_index, _ = random_events(0)
    time = torch.randperm(edge_index.size(1)).float()  # where times are equal it decides which is later
    order = torch.randperm(time.numel())
    found = event_edges(edge_index[:, order], time[order], 3)
    assert {(int(order[j]), int(order[i]), relation) for j, i, relation in found} == event_edges(edge_index, time, 3)


@pytest.mark.parametrize("seed", range(4))
def test_later_events_do_not_reach_earlier_ones(seed):
    edge_index, time = random_events(seed)
    early = time < 6
    before = {edge for edge in event_edges(edge_index, time, 3) if early[edge[1]]}
    assert before and all(time[j] < time[i] for j, i, _ in before)
    changed, later = edge_index.clone(), time.clone()
    changed[:, ~early] = torch.randint(6, (2, int((~early).sum())))
    later[~early] = torch.randint(6, 20, (int((~early).sum()),))
    assert {edge for edge in event_edges(changed, later, 3) if early[edge[1]]} == before
    kept = early.nonzero().view(-1)
    alone = event_edges(edge_index[:, kept], time[kept], 3)
    assert {(int(kept[j]), int(kept[i]), relation) for j, i, relation in alone} == before


def test_a_user_of_many_events_costs_no_square():
    edge_index = torch.stack([torch.zeros(5000, dtype=torch.long), torch.arange(1, 5001)])
    assert largest_tensor(lambda: recent_events(edge_index, torch.arange(5000), 10)) <= 2 * 10 * 5000


def test_no_events():
    edges, relation = recent_events(torch.empty(2, 0, dtype=torch.long), torch.empty(0), 5)
    assert edges.shape == (2, 0) and relation.shape == (0,) and edges.dtype == relation.dtype == torch.long


def test_bad_input_names_the_argument():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    for bad, name in (
        ((edge_index, torch.zeros(2), -1), "'num_recent'"),
        ((edge_index[0], torch.zeros(2), 1), "'edge_index'"),
        ((edge_index, torch.zeros(3), 1), "'time'"),
        ((edge_index, torch.zeros(2, 1), 1), "'time'"),
        ((edge_index, torch.tensor([0, float("nan")]), 1), "'time'"),
    ):
        with pytest.raises(ValueError, match=name):
            recent_events(*bad)
