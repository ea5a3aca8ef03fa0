import json
import re
import sys
from html import unescape

import pytest
import torch

pytest.importorskip("gradio", reason="gradio is not installed")
pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo.viz import Section
from tmt_geo.web import ModelCache, draw, frames
from tmt_geo.web.figures import MAX_CHARACTERS, plotly_file, shared_copy

TEXT = "A list is a mutable sequence."


@pytest.fixture(scope="module")
def cache(runs):
    return ModelCache(runs)


def document(frame):
    """What stands in a frame."""
    return unescape(re.search('srcdoc="([^"]*)"', frame)[1])


def test_a_tmt_shows_mesh_exits_and_decay(cache):
    model, tokenizer = cache.get("demo/tmt")
    sections = {section.title: section.body for section in draw(model, tokenizer, TEXT)}
    mesh = json.loads(re.search('id="data">(.*?)</script>', document(sections["The mesh, layer by layer"]))[1])
    assert len(mesh["edges"]) == 2 and len(mesh["labels"]) == len(tokenizer(TEXT).input_ids)
    assert "vocabulary head" in sections["Why the next token"]
    assert "sequence" in re.sub("<[^>]*>", "", sections["How deep each token went"])
    assert len(sections["Decay with distance"].data) == 2 * 2


def test_another_model_says_that_it_has_no_mesh(cache):
    (section,) = draw(*cache.get("demo/llama"), TEXT)
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
def test_what_the_model_cannot_read_is_refused(cache, run, text, message):
    with pytest.raises(ValueError, match=message):
        draw(*cache.get(run), text)


def test_too_many_characters_never_reach_the_tokenizer(cache):
    def tokenizer(*_, **__):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=r"^'text' must have at most 4,000 characters \(got 4,001\)"):
        draw(cache.get("demo/tmt")[0], tokenizer, "a" * (MAX_CHARACTERS + 1))


def test_a_copy_shares_every_tensor_and_no_hook(cache):
    model, _ = cache.get("demo/tmt")
    other = shared_copy(model)
    assert other.training == model.training and type(other) is type(model)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert other.state_dict(keep_vars=True)[name] is tensor
    seen = []
    for module in other.modules():
        module.register_forward_hook(lambda *_: seen.append(1))
    ids = torch.arange(5).unsqueeze(0)
    with torch.no_grad():
        out = model(ids).logits
        assert not seen
        assert torch.equal(other(ids).logits, out) and seen


def test_figures_are_taken_on_a_copy(cache, monkeypatch):
    model, tokenizer = cache.get("demo/tmt")
    read = []
    module = sys.modules[draw.__module__]
    monkeypatch.setattr(module, "text_sections", lambda used, *_: read.append(used) or [])
    draw(model, tokenizer, TEXT)
    assert len(read) == 1 and read[0] is not model and type(read[0]) is type(model)


def test_a_picture_is_a_document_that_cannot_reach_the_page():
    drawn = frames([Section('<i>"Title"</i>', "<b>body</b>", "said")], "<u>run</u>", "plotly.js")
    ((title, frame),) = drawn.items()
    assert title == '<i>"Title"</i>'
    assert frame.startswith("<iframe ") and frame.count("<") == 2 and frame.endswith("></iframe>")
    assert 'sandbox="allow-scripts allow-downloads"' in frame
    page = document(frame)
    assert "&lt;u&gt;run&lt;/u&gt;" in page and "&lt;i&gt;" in page and "<i>" not in page and "<b>body</b>" in page
    assert "<script" not in page


def test_a_figure_brings_no_library_of_its_own(cache):
    sections = draw(*cache.get("demo/tmt"), TEXT)
    page = document(frames(sections, "demo/tmt", "plotly.js?a&b")["Decay with distance"])
    assert page.count("<script src=") == 1 and page.index('<script src="plotly.js?a&amp;b">') < page.index("newPlot")
    assert len(page) < 1e5


def test_the_text_is_escaped_wherever_it_shows(cache):
    for section in draw(*cache.get("demo/tmt"), "<script>alert(1)</script> a"):
        assert "<script>alert" not in section.html(), section.title


def test_plotly_comes_with_its_package():
    assert plotly_file().is_file() and b"plotly.js v" in plotly_file().read_bytes()[:200]
