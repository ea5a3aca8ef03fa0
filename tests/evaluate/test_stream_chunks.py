"""Lanes cover a text once, and remember as much as one lane would."""

import pytest

from tmt_geo.evaluate.lanes import reading_lanes


@pytest.mark.parametrize("windows", [1, 2, 3, 7, 20, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("before", [0, 1, 2, 5, 300])
def test_every_window_is_scored_once_by_a_lane_that_has_read_what_is_remembered(windows, count, before):
    lanes = reading_lanes(windows, count, before)
    scored = []
    for begin, first in zip(lanes.begin.tolist(), lanes.scored.tolist(), strict=True):
        assert begin == 0 or first - begin >= before
        scored += range(first, begin + lanes.length)
    assert scored == list(range(windows))
    assert lanes.begin.min() >= 0


def test_lanes_are_short():
    lanes = reading_lanes(1000, 8, 8)
    assert lanes.begin.numel() == 8
    assert lanes.length == 132  # an eighth, and seven eighths of what the others read twice
