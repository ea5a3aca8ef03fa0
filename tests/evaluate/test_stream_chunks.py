"""Chunks cover a text once, and remember as much as one chunk of the whole text would."""

import pytest

from tmt_geo.evaluate.stream_chunks import split_stream


@pytest.mark.parametrize("windows", [1, 2, 3, 7, 20, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("before", [0, 1, 2, 5, 300])
def test_every_window_is_scored_once_by_a_chunk_that_has_read_what_is_remembered(windows, count, before):
    chunks = split_stream(windows, count, before)
    scored = []
    for begin, first in zip(chunks.begin.tolist(), chunks.scored.tolist(), strict=True):
        assert begin == 0 or first - begin >= before
        scored += range(first, begin + chunks.length)
    assert scored == list(range(windows))
    assert chunks.begin.min() >= 0


def test_chunks_are_short():
    chunks = split_stream(1000, 8, 8)
    assert chunks.begin.numel() == 8
    assert chunks.length == 132  # an eighth, and seven eighths of what the others read twice
