"""A prediction told: every number of the parts is there, and all text is escaped."""

import re
from html import unescape

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.evaluate import prediction_parts
from tmt_geo.testing.tiny import lively, tiny_config
from tmt_geo.viz import why_prediction

LENGTH = 20


class Words:
    """A tokenizer of words that are distinguished by their numbers."""

    def decode(self, ids):
        return f" w{ids[0]}"


class Hostile:
    """A tokenizer whose words are markup."""

    def decode(self, ids):
        return f"</td><script>alert({ids[0]})</script><b a='\">&amp;"


def made(**options):
    torch.manual_seed(5)
    model = lively(TMTModel(tiny_config(**{"copy_k": 4, "copy_dim": 8, "copy_memory": 10, **options})))
    return model, torch.randint(7, (1, LENGTH))


def rows(html, title):
    """The text of the cells of a table by its headline; the first table has none."""
    table = re.search(rf"{title}.*?<tbody>(.*?)</tbody>", html, re.DOTALL)[1]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("</tr>")[:-1]]
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in cells]


def test_the_likeliest_tokens_with_what_each_part_gives_them():
    model, ids = made()
    parts = prediction_parts(model, ids)
    html = why_prediction(parts, Words())
    found = rows(html, "next token")
    likeliest = parts.prob.topk(8)
    for (token, _, prob, alone), index, p in zip(found, likeliest.indices.tolist(), likeliest.values, strict=True):
        assert (token, prob, alone) == (f" w{index}", f"{p:.3f}", f"{parts.vocabulary[index]:.3f}")
    bars = [list(map(float, re.findall(r"width: ([\d.]+)em", row))) for row in html.split("<tr>")[1:]]
    bars = [bar for bar in bars if bar]
    for (ours, copied), index, p in zip(bars, likeliest.indices.tolist(), likeliest.values, strict=True):
        assert ours + copied == pytest.approx(13 * float(p / likeliest.values[0]), abs=0.011)
        assert copied == pytest.approx(13 * float(parts.share * parts.copied[index] / likeliest.values[0]), abs=0.006)
    assert f"{parts.share:.0%} is copied" in html
    best = int(parts.vocabulary.argmax())
    assert f"vocabulary head alone would say <code> w{best}</code> with {parts.vocabulary[best]:.3f}" in html


def test_votes_and_neighbors_stand_in_their_passages():
    model, ids = made()
    before = torch.randint(7, (1, 12))
    with torch.no_grad():
        parts = prediction_parts(model, ids, memory=model(before, use_cache=False).copy_memory)
    words = [f" w{token}" for token in parts.tokens.tolist()]
    html = why_prediction(parts, Words())
    votes, neighbors = rows(html, "Copied from"), rows(html, "Attended to in the mesh")
    assert len(votes) == len(parts.votes) == 4 and len(neighbors) == len(parts.neighbors)
    for (given, token, passage, where), vote in zip(votes, parts.votes, strict=True):
        assert (given, token) == (f"{parts.share * vote.weight:.3f}", words[vote.place])
        assert "".join(words[vote.place - 1 : vote.place + 4]) in passage
        assert where.startswith(f"{len(words) - vote.place} back")
        assert where.endswith("before the text") == (vote.place - 1 < parts.remembered)
    for cells, neighbor in zip(neighbors, parts.neighbors, strict=True):
        assert cells[:3] == [f"{weight:.2f}" if weight else "·" for weight in neighbor.weights]
        assert "".join(words[max(neighbor.place - 7, 0) : neighbor.place + 2]) in cells[3]
        assert cells[4] == ("window" if neighbor.window else "mesh")
        assert cells[5] == f"{len(words) - 1 - neighbor.place} back"
    found = re.findall(r"<u>([^<]*)</u><mark>([^<]*)</mark>", html)
    places = [vote.place - 1 for vote in parts.votes] + [neighbor.place for neighbor in parts.neighbors]
    assert found == [(words[place], words[place + 1]) for place in places]


def test_without_votes_and_neighbors_the_vocabulary_head_is_all():
    model, ids = made(copy_k=0, mesh=False)
    html = why_prediction(prediction_parts(model, ids), Words())
    assert "copied" not in html.split("</style>")[1] and "Attended" not in html
    assert [len(row) for row in rows(html, "next token")] == [3] * 8


def test_text_is_escaped():
    model, ids = made()
    html = why_prediction(prediction_parts(model, ids), Hostile())
    assert "<script" not in html and "<b a=" not in html and "&lt;script&gt;alert(" in html
    assert html.count("<td") == html.count("</td>")
