import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import loss_curves

HISTORY = [
    {"step": 10, "loss": 3.0, "learning_rate": 1e-3},
    {"step": 10, "eval_loss": 3.1},
    {"step": 20, "loss": 2.0},
    {"step": 20, "eval_loss": 2.5, "eval_runtime": 1.0},
]


def test_training_and_validation_are_separate_curves():
    figure = loss_curves({"A": HISTORY})
    curves = {curve.name: (list(curve.x), list(curve.y)) for curve in figure.data}
    assert curves == {"A, training": ([10, 20], [3.0, 2.0]), "A, validation": ([10, 20], [3.1, 2.5])}


def test_two_models_differ_by_more_than_colour():
    figure = loss_curves({"A": HISTORY, "B": HISTORY})
    validation = [curve for curve in figure.data if curve.name.endswith("validation")]
    assert len({curve.marker.symbol for curve in validation}) == 2
    assert len({curve.line.color for curve in validation}) == 2
    training = [curve for curve in figure.data if curve.name.endswith("training")]
    assert [t.line.color for t in training] == [v.line.color for v in validation]
    assert {t.line.dash for t in training}.isdisjoint({v.line.dash for v in validation})


def test_a_history_without_losses_is_refused():
    with pytest.raises(ValueError, match="'histories' needs an entry"):
        loss_curves({"A": [{"step": 1, "learning_rate": 0.1}]})
