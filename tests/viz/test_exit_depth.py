from html.parser import HTMLParser

import pytest
import torch

from tmt_geo.viz import Passage, exit_depth_html, layers_computed, visible_token


class _Spans(HTMLParser):
    """Collects the tokens of the text with the class and the number that each carries."""

    def __init__(self):
        super().__init__()
        self.tokens, self.inside, self.in_text = [], 0, False

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("class") == "tmt-text":
            self.in_text = True
        elif self.in_text and tag == "span":
            self.tokens.append([attrs["class"], attrs["data-n"], ""])

    def handle_endtag(self, tag):
        if tag == "p":
            self.in_text = False

    def handle_data(self, data):
        if self.in_text and self.tokens:
            self.tokens[-1][2] += data


def _spans(html):
    parser = _Spans()
    parser.feed(html)
    return parser.tokens


def test_layers_computed_counts_the_layers_before_the_exit():
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[1:, 0, 1] = True  # left after the first layer
    masks[3, 1, 2] = True  # left after the third
    assert layers_computed(masks).tolist() == [[4, 1, 4], [4, 4, 3]]


def test_layers_computed_rejects_a_single_row():
    with pytest.raises(ValueError, match=r"'exit_masks' must have shape \(L, B, S\)"):
        layers_computed(torch.zeros(4, 3, dtype=torch.bool))


def test_each_token_carries_its_depth_and_the_whole_text_is_there():
    tokens = ["Hello", " world", ",", "\n", " <|endoftext|>"]
    spans = _spans(exit_depth_html(Passage(tokens, [4, 3, 1, 2, 1], 4)))
    assert [(css, number) for css, number, _ in spans] == [
        ("d4", "4"),
        ("d3", "3"),
        ("d1", "1"),
        ("d2", "2"),
        ("d1", "1"),
    ]
    assert "".join(text for *_, text in spans).replace("↵", "") == "".join(tokens)


def test_deeper_tokens_are_shaded_more():
    html = exit_depth_html(Passage(["a"], [1], 3))
    alphas = [float(html.split(f".d{depth} {{ background: rgba(0,114,178,")[1].split(")")[0]) for depth in (1, 2, 3)]
    assert alphas == sorted(alphas) and len(set(alphas)) == 3


def test_a_single_layer_has_a_shade():
    assert ".d1 { background" in exit_depth_html(Passage(["a"], [1], 1))


@pytest.mark.parametrize("token", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a&b", "'quoted'"])
def test_a_token_never_becomes_markup(token):
    html = exit_depth_html(Passage([token, "x"], [1, 2], 2))
    assert "<script" not in html and "<img" not in html
    assert _spans(html)[0][2] == token


@pytest.mark.parametrize(("token", "shown"), [(" the", " the"), ("\n\n", "↵↵"), ("  ", "··"), ("\t", "⇥"), ("", "")])
def test_white_space_is_visible(token, shown):
    assert visible_token(token) == shown


def test_the_table_tells_the_share_and_the_commonest_tokens_of_a_depth():
    html = exit_depth_html(Passage([",", ",", " rare", "."], [1, 1, 2, 1], 2))
    first, second = html.split("<tbody>")[1].split("</tr>")[:2]
    assert "75 %" in first and first.index("<code>,</code>") < first.index("<code>.</code>")
    assert "25 %" in second and "<code> rare</code>" in second


@pytest.mark.parametrize(
    ("depth", "message"), [([1], "one entry a token, 2"), ([1, 0], r"1 to 3 \(got 0"), ([4, 1], "got 4")]
)
def test_a_passage_that_does_not_fit_is_refused(depth, message):
    with pytest.raises(ValueError, match=f"'depth'.*{message}"):
        Passage(["a", "b"], depth, 3)
