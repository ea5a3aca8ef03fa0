"""A budget gate's threshold: the mean of the quantiles of the first batches, then a running mean."""

import pytest
import torch

from tmt_geo import ExitGate


@pytest.mark.parametrize("momentum", [0.9, 0.75])
def test_the_first_batches_count_alike_and_later_ones_by_the_momentum(momentum):
    gate = ExitGate(4, "budget", rate=0.5, momentum=momentum)
    wanted, alike = [1.0, 4.0, 10.0, -2.0, 6.0, 0.5, 3.0, 9.0, -4.0, 2.0, 7.0, 5.0, -1.0], round(1 / (1 - momentum))
    spread, running = torch.arange(-2.0, 3.0), []
    for value in wanted:  # whatever the middle of five scores is taken to be, it moves with them
        gate.update_threshold(value + spread)
        running.append(float(gate.running))
    middle = running[0] - wanted[0]
    assert abs(middle) <= 1
    expected = [sum(wanted[: n + 1]) / (n + 1) for n in range(alike)]
    for value in wanted[alike:]:
        expected.append(momentum * expected[-1] + (1 - momentum) * value)
    assert running == pytest.approx([value + middle for value in expected], abs=1e-5)
