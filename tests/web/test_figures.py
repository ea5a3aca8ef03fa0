import re
import sys
from html import unescape

import pytest
import torch

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import Section
from tmt_geo.web import Shelf, look, pictures
from tmt_geo.web.look import MOST_CHARACTERS, plotly_file, twin

TEXT = "A list is a mutable sequence."


@pytest.fixture(scope="module")
def shelf(runs):
    return Shelf(runs)


def document(frame):
    """What stands in a frame."""
    return unescape(re.search('srcdoc="([^"]*)"', frame)[1])


def test_a_tmt_shows_mesh_exits_and_decay(shelf):
    model, tokenizer = shelf.get("demo/tmt")
    sections = {section.title: section.body for section in look(model, tokenizer, TEXT)}
    mesh = sections["The mesh, layer by layer"]
    assert len(mesh.frames) == 2 and len(mesh.data[3].x) == len(tokenizer(TEXT).input_ids)
    assert "sequence" in re.sub("<[^>]*>", "", sections["How deep each token went"])
    assert len(sections["Decay with distance"].data) == 2 * 2


def test_another_model_says_that_it_has_no_mesh(shelf):
    (section,) = look(*shelf.get("demo/llama"), TEXT)
    assert section.title == "No mesh" and "LlamaForCausalLM" in section.body


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", r"^'text' needs at least one token", id="empty"),
        pytest.param(
            "one two three " * 40, r"^'text' exceeds the model's max_seq_len=128 tokens \(got \d+\)", id="tokens"
        ),
    ],
)
@pytest.mark.parametrize("run", ["demo/tmt", "demo/llama"])
def test_what_the_model_cannot_read_is_refused(shelf, run, text, message):
    with pytest.raises(ValueError, match=message):
        look(*shelf.get(run), text)


def test_too_many_characters_never_reach_the_tokenizer(shelf):
    def tokenizer(*_, **__):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=r"^'text' must have at most 4,000 characters \(got 4,001\)"):
        look(shelf.get("demo/tmt")[0], tokenizer, "a" * (MOST_CHARACTERS + 1))


def test_a_twin_shares_every_tensor_and_no_hook(shelf):
    model, _ = shelf.get("demo/tmt")
    other = twin(model)
    assert other.training == model.training and type(other) is type(model)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert other.state_dict(keep_vars=True)[name] is tensor
    heard = []
    for module in other.modules():
        module.register_forward_hook(lambda *_: heard.append(1))
    ids = torch.arange(5).unsqueeze(0)
    with torch.no_grad():
        out = model(ids).logits
        assert not heard
        assert torch.equal(other(ids).logits, out) and heard


def test_readings_are_taken_on_a_twin(shelf, monkeypatch):
    model, tokenizer = shelf.get("demo/tmt")
    read = []
    module = sys.modules[look.__module__]  # its name in the package is that of the function
    monkeypatch.setattr(module, "text_sections", lambda used, *_: read.append(used) or [])
    look(model, tokenizer, TEXT)
    assert len(read) == 1 and read[0] is not model and type(read[0]) is type(model)


def test_a_picture_is_a_document_that_cannot_reach_the_page():
    drawn = pictures([Section('<i>"Title"</i>', "<b>body</b>", "said")], "<u>run</u>", "plotly.js")
    ((title, frame),) = drawn.items()
    assert title == '<i>"Title"</i>'
    assert frame.startswith("<iframe ") and frame.count("<") == 2 and frame.endswith("></iframe>")
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    page = document(frame)
    assert "&lt;u&gt;run&lt;/u&gt;" in page and "&lt;i&gt;" in page and "<i>" not in page and "<b>body</b>" in page
    assert "<script" not in page


def test_a_figure_brings_no_library_of_its_own(shelf):
    sections = look(*shelf.get("demo/tmt"), TEXT)
    page = document(pictures(sections, "demo/tmt", "plotly.js?a&b")["Decay with distance"])
    assert page.count("<script src=") == 1 and page.index('<script src="plotly.js?a&amp;b">') < page.index("newPlot")
    assert len(page) < 1e5


def test_the_text_is_escaped_wherever_it_shows(shelf):
    for section in look(*shelf.get("demo/tmt"), "<script>alert(1)</script> a"):
        assert "<script>alert" not in section.html(), section.title


def test_plotly_comes_with_its_package():
    assert plotly_file().is_file() and b"plotly.js v" in plotly_file().read_bytes()[:200]
