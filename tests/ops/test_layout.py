import pytest
import torch

from tmt_geo.ops.layout import DenseLayout


def ragged() -> DenseLayout:
    return DenseLayout.from_batch(6, torch.tensor([1, 0, 1, 1, 0, 3]), torch.tensor([2.0, 1.0, 0.5, 2.0, 0.0, 9.0]))


def test_order_by_graph_then_time_then_node():
    layout = ragged()
    assert layout.position.tolist() == [1, 1, 0, 2, 0, 0]
    assert layout.lengths.tolist() == [2, 3, 0, 1]
    assert layout.capacity == 3 and not layout.packed
    assert layout.node.tolist() == [4, 1, -1, 2, 0, 3, -1, -1, -1, 5, -1, -1]
    assert layout.slot_time[layout.slot].tolist() == [2.0, 1.0, 0.5, 2.0, 0.0, 9.0]


@pytest.mark.parametrize("layout", [ragged(), DenseLayout.uniform(2, 3)], ids=["ragged", "packed"])
def test_nodes_come_back_from_a_dense_batch(layout):
    x = torch.randn(6, 2)
    dense, slots = layout.to_dense(x), layout.to_slots(x)
    assert dense.shape == (layout.num_graphs, 3, 2) and torch.equal(dense.flatten(0, 1), slots)
    assert torch.equal(layout.from_dense(dense), x) and torch.equal(slots[layout.slot], x)
    assert (slots[layout.node < 0] == 0).all()


def test_uniform_is_what_from_batch_finds():
    uniform = DenseLayout.uniform(3, 4)
    found = DenseLayout.from_batch(12, torch.arange(3).repeat_interleave(4))
    for name in ("batch", "position", "lengths", "slot_time"):
        assert torch.equal(getattr(uniform, name), getattr(found, name))
    assert uniform.packed and found.packed and uniform.capacity == found.capacity == 4


def test_reversed_time_is_not_packed():
    assert not DenseLayout.from_batch(4, time=torch.arange(4).flip(0)).packed


def test_a_window_holds_the_slots_before_in_the_same_graph():
    slots, mask = ragged().window(2)
    assert mask.sum(1).tolist() == [1, 1, 0, 2, 0, 0]
    assert slots[3].tolist() == [4, 3] and slots[1].tolist() == [0, 1] and slots[5].tolist() == [9, 9]


def test_gradients_reach_nodes_through_slots():
    layout = DenseLayout.from_batch(3, torch.tensor([0, 2, 2]))
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.to_slots, x)


def test_bool_batch_is_refused():
    with pytest.raises(ValueError, match="'batch'"):
        DenseLayout.from_batch(2, torch.tensor([True, False]))
