import pytest
import torch

from tmt_geo.ops.order import NodeOrder


def test_order_by_graph_then_time_then_node():
    order = NodeOrder.from_batch(6, torch.tensor([1, 0, 1, 1, 0, 3]), torch.tensor([2.0, 1.0, 0.5, 2.0, 0.0, 9.0]))
    assert order.rank.tolist() == [1, 1, 0, 2, 0, 0]
    assert order.sizes.tolist() == [2, 3, 0, 1]
    assert order.capacity == 3 and not order.packed
    assert order.node.tolist() == [4, 1, -1, 2, 0, 3, -1, -1, -1, 5, -1, -1]
    x = torch.randn(6, 2)
    assert torch.equal(order.to_slots(x)[order.slot], x)
    assert (order.to_slots(x)[order.node < 0] == 0).all()


def test_uniform_is_what_from_batch_finds():
    uniform = NodeOrder.uniform(3, 4)
    found = NodeOrder.from_batch(12, torch.arange(3).repeat_interleave(4))
    for name in ("row", "rank", "sizes"):
        assert torch.equal(getattr(uniform, name), getattr(found, name))
    assert uniform.packed and found.packed and uniform.capacity == found.capacity == 4


def test_reversed_time_is_not_packed():
    assert not NodeOrder.from_batch(4, time=torch.arange(4).flip(0)).packed


def test_gradients_reach_nodes_through_slots():
    order = NodeOrder.from_batch(3, torch.tensor([0, 2, 2]))
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(order.to_slots, x)


def test_bool_batch_is_refused():
    with pytest.raises(ValueError, match="'batch'"):
        NodeOrder.from_batch(2, torch.tensor([True, False]))
