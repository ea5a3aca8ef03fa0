import socket
import urllib.request

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

import gradio as gr

from tmt_geo.web import ModelCache, serve
from tmt_geo.web.app import choose, continue_on_page, draw_layers, show_errors

TEXT = "A list is a mutable sequence."
MESH, DECAY = "The mesh, layer by layer", "Decay with distance"


@pytest.fixture(scope="module")
def cache(runs):
    return ModelCache(runs)


def test_the_menu_begins_with_a_tmt_and_keeps_what_was_chosen(cache):
    menu, notice = choose(cache, None)
    assert [value for value, _ in menu.choices] == ["demo/tmt", "demo/llama"] and menu.value == "demo/tmt"
    assert not notice.visible
    assert choose(cache, "demo/llama")[0].value == "demo/llama"
    assert choose(cache, "gone")[0].value == "demo/tmt"


def test_without_a_run_the_page_tells_how_to_make_one(tmp_path):
    menu, notice = choose(ModelCache(tmp_path), None)
    assert menu.choices == [] and menu.value is None
    assert notice.visible and " demo. Then load this page again." in notice.value and str(tmp_path) in notice.value
    with pytest.raises(gr.Error, match="needs a trained model"):
        draw_layers(ModelCache(tmp_path), None, TEXT, None)


def test_the_figure_chosen_before_is_shown_again(cache):
    drawn, menu, shown = draw_layers(cache, "demo/tmt", TEXT, None)
    assert (menu.value, shown) == (MESH, drawn[MESH]) and [value for value, _ in menu.choices] == list(drawn)
    drawn, menu, shown = draw_layers(cache, "demo/tmt", TEXT, DECAY)
    assert (menu.value, shown) == (DECAY, drawn[DECAY]) and menu.visible
    drawn, menu, shown = draw_layers(cache, "demo/llama", TEXT, DECAY)
    assert (menu.value, shown) == ("No mesh", drawn["No mesh"]) and not menu.visible


def test_what_is_written_differs_from_time_to_time_unless_it_is_the_likeliest(cache):
    last = [
        [list(continue_on_page(cache, "demo/tmt", TEXT, 20, temperature))[-1] for _ in range(2)]
        for temperature in (0, 1.5)
    ]
    assert last[0][0] == last[0][1] and last[1][0] != last[1][1]


@pytest.mark.parametrize("run", ["demo/tmt", "<b>none</b>"])
def test_bad_input_is_a_message_in_one_line(cache, run):
    for act in (
        lambda: draw_layers(cache, run, "word " * 200, None),
        lambda: list(continue_on_page(cache, run, "w " * 200, 9, 0)),
    ):
        with pytest.raises(gr.Error) as caught:
            act()
        assert "(got " in caught.value.message and "<" not in caught.value.message
        assert "\n" not in caught.value.message and not caught.value.print_exception


def test_a_fault_of_the_program_is_no_message():
    with pytest.raises(RuntimeError, match="broken"), show_errors():
        raise RuntimeError("broken")


def test_it_is_served_to_this_machine_alone_and_calls_no_other(runs, monkeypatch):
    asked = []
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **named: asked.append(host) or real(host, *rest, **named)
    )
    monkeypatch.setenv("GRADIO_SHARE", "true")
    app = serve(runs)
    try:
        assert app.local_url.startswith("http://127.0.0.1:") and app.share_url is None
        assert not app.analytics_enabled
        assert urllib.request.urlopen(app.local_url).status == 200
        taken = int(app.local_url.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(OSError, match=str(taken)):
            serve(runs, port=taken)
    finally:
        app.close(verbose=False)
    assert set(asked) <= {"127.0.0.1", "localhost"} and asked
