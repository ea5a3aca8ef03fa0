import pytest

from tmt_geo.data.streams import stream_order


def test_rows_read_on_where_they_stopped():
    assert stream_order(7, 2) == [0, 3, 1, 4, 2, 5]
    assert stream_order(3, 3) == [0, 1, 2]
    assert stream_order(4, 1) == [0, 1, 2, 3]


def test_too_few_blocks_are_named():
    with pytest.raises(ValueError, match="'num_blocks' must be at least one for each of 3 rows"):
        stream_order(2, 3)
