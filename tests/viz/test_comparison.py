import pytest

from tmt_geo.viz import ModelResult, comparison_rows


def test_every_figure_stands_in_its_row_and_column(results):
    rows = dict(comparison_rows(results))
    assert rows["parameters"] == ["1,000,000", "1,001,000"]
    assert rows["word perplexity"] == ["1,234.6", "2,000.0"]
    assert rows["bits per byte"][0] == "2.346"
    assert rows["FLOPs a token, layers"][0] == "1.23 M"
    assert rows["FLOPs a token, head"][0] == "4.50 k"
    assert rows["active share by layer"] == ["1.00 0.50 0.25", "1.00 1.00 1.00"]
    assert rows["mean active share"] == ["0.58", "1.00"]
    assert rows["training tokens a second"] == ["5.00 k", "-"]


def test_a_row_without_a_figure_is_left_out(results):
    alone = ModelResult("TMT", 10, results[0].evaluation)
    assert "training tokens a second" not in dict(comparison_rows([alone]))


def test_no_models_are_refused():
    with pytest.raises(ValueError, match="'results'"):
        comparison_rows([])
