import math

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import TemporalDecay
from tmt_geo.viz import decay_curves


@pytest.mark.parametrize("form", ["log", "published"])
def test_curves_are_the_factors_of_the_decay(form):
    decays = [TemporalDecay(3, form, rate) for rate in (0.5, 8.0)]
    scalars = torch.stack([decay.scalars for decay in decays])
    figure = decay_curves(scalars, form=form, unit=64)
    assert len(figure.data) == 6
    for i, curve in enumerate(figure.data):
        factor = decays[i // 3].factor(torch.from_numpy(np.asarray(curve.x)) / 64)[:, i % 3]
        assert np.allclose(curve.y, factor.detach(), atol=1e-6)
        assert curve.name == f"head {i % 3 + 1}" and curve.showlegend is (i < 3)
    assert [note.text for note in figure.layout.annotations] == ["layer 1", "layer 2"]


def test_half_of_the_weight_is_left_after_the_half_life():
    figure = decay_curves(torch.tensor([[2.0]]), unit=100, longest=100 * math.log(2) / 2)
    assert figure.data[0].y[-1] == pytest.approx(0.5) and figure.data[0].x[0] == pytest.approx(1)


def test_the_output_of_a_model_is_drawn(text):
    figure = decay_curves(text.out.decay_scalars, unit=64)
    assert len(figure.data) == 3 * 4 and figure.data[0].x[-1] == pytest.approx(64)
    at = np.asarray(figure.data[5].x)
    assert np.allclose(figure.data[5].y, np.exp(-at / 64 * float(text.out.decay_scalars[1, 1])), atol=1e-6)


def test_heads_differ_by_more_than_colour():
    figure = decay_curves(torch.ones(5, 20))
    looks = [(curve.line.color, curve.line.dash) for curve in figure.data]
    assert len(set(looks[:20])) == 20 and looks[:20] == looks[20:40]


def test_short_times_are_drawn_too():
    assert np.allclose(decay_curves(torch.ones(1, 1)).data[0].x, np.geomspace(1e-3, 1, 48))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"'scalars' must have shape \(L, H\) \(got \(3,\)\)"):
        decay_curves(torch.ones(3))
    with pytest.raises(ValueError, match="'form' must be one of"):
        decay_curves(torch.ones(1, 1), form="linear")
    with pytest.raises(ValueError, match="'unit' and 'longest' must be positive"):
        decay_curves(torch.ones(1, 1), unit=0)
