import shutil
import sys

import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import depth_profile, save_figure

FIGURE = depth_profile([("noun", 3, 1.5)], num_layers=2)


def test_a_page_holds_its_library_and_does_not_play_by_itself(tmp_path):
    path = save_figure(FIGURE, tmp_path / "figure.html")
    html = path.read_text(encoding="utf-8")
    assert path == tmp_path / "figure.html" and len(html) > 1_000_000
    assert "Plotly.animate(" not in html.split("Plotly.newPlot(")[-1] and "cdn.plot.ly/plotly" not in html


def test_an_image_has_the_size_asked_for(tmp_path):
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "chrome", "google-chrome")):
        pytest.skip("no browser to draw images with")
    data = save_figure(FIGURE, tmp_path / "figure.png", width=400, height=300, scale=2).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 3000
    assert [int.from_bytes(data[at : at + 4], "big") for at in (16, 20)] == [800, 600]


def test_without_kaleido_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ImportError, match=r'pip install "tmt-geo\[figures\]" \(got no kaleido\)'):
        save_figure(FIGURE, tmp_path / "figure.png")


def test_without_a_browser_the_error_says_so(tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="kaleido is not installed")

    def write_image(*args, **kwargs):
        raise RuntimeError("no browser")

    monkeypatch.setattr("plotly.graph_objects.Figure.write_image", write_image)
    with pytest.raises(RuntimeError, match="a Chrome or Chromium"):
        save_figure(FIGURE, tmp_path / "figure.svg")


@pytest.mark.parametrize("name", ["figure", "figure.gif"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=rf"'path' must end in .html .*\(got {name}\)"):
        save_figure(FIGURE, tmp_path / name)
