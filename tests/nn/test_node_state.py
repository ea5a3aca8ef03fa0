import torch

from tmt_geo import ExitGate
from tmt_geo.nn.exit_gate import GateOutput
from tmt_geo.nn.node_state import NodeState


def judged(*confidence: float, threshold: float = 0.5):
    """A gate of known confidences."""
    c = torch.tensor(confidence)
    return lambda y: GateOutput(c.logit(), c, c >= threshold, 1 - c, torch.zeros_like(c))


def test_nodes_leave_with_their_confidence_and_keep_their_state():
    state, out = NodeState(torch.zeros(4, 2)).update(torch.ones(4, 2), judged(0.1, 0.9, 0.2, 0.3))
    assert state.active.tolist() == [0, 2, 3] and state.stay_prob.tolist() == (1 - out.confidence)[[0, 2, 3]].tolist()
    state, _ = state.update(torch.full((3, 2), 2.0), judged(0.8, 0.4, 0.6))
    assert state.x[:, 0].tolist() == [2, 1, 2, 2]
    assert state.changed.tolist() == [0, 2, 3] and state.active.tolist() == [2]
    torch.testing.assert_close(state.confidence, torch.tensor([0.8, 0.9, 0.4, 0.6]))
    state, nothing = state.update(torch.full((1, 2), 3.0))
    assert nothing is None and state.x[:, 0].tolist() == [2, 1, 3, 2] and state.stay_prob is None
    torch.testing.assert_close(state.confidence, torch.tensor([0.8, 0.9, 0.4, 0.6]))


def test_an_update_is_scaled_by_one_and_its_gradient_reaches_the_gate():
    gate, x = ExitGate(3, "fixed", 1.0), torch.randn(5, 3)
    state, _ = NodeState(x).update(x, gate)
    y = torch.randn(5, 3)
    after, _ = state.update(y)
    torch.testing.assert_close(after.x, y)
    weight = torch.randn(5, 3)
    grad = torch.autograd.grad((after.x * weight).sum(), state.stay_prob)[0]
    torch.testing.assert_close(grad, ((y - x) * weight).sum(1))


def test_only_nodes_that_have_changed_are_projected():
    projected = []

    def project(nodes):
        projected.append(nodes)
        return torch.ones(2, 1, 1), torch.ones(2, 1, 1)

    key = torch.zeros(4, 1, 1)
    state = NodeState(torch.zeros(4, 2), changed=torch.tensor([1, 3]), key=key, value=key)
    assert state.project_kv(project)[0].flatten().tolist() == [0, 1, 0, 1]
    state = NodeState(torch.zeros(4, 2), changed=torch.arange(0), key=key, value=key)
    assert state.project_kv(project)[0] is key and len(projected) == 1
