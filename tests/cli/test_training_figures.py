import json
import re
from base64 import b64decode
from html import unescape

import numpy as np
import pytest
import torch

pytest.importorskip("plotly", reason="plotly is not installed")

from tmt_geo import TMTModel
from tmt_geo.cli.training_figures import first_tokens, step_sections
from tmt_geo.data import train_tokenizer
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

TOKENS = 24


class Letters:
    """A tokenizer whose tokens are distinguished by their numbers."""

    def decode(self, ids):
        return f" <{ids[0]}>"


def layers(seed, **options):
    """What a model that has learned something does with the same text."""
    torch.manual_seed(seed)
    model = lively(TMTModel(tiny_config(**options)))
    return model.layer_graphs(torch.arange(TOKENS)[None] % VOCAB)


def view(graphs):
    """What the linked view of these steps holds."""
    page = unescape(re.search('srcdoc="([^"]*)"', step_sections(graphs, Letters())[0].body)[1])
    return json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])


def numbers(text, dtype, *shape):
    return np.frombuffer(b64decode(text), dtype).reshape(*shape, TOKENS)


def groups(data, frame):
    """The tokens that share a cluster, whatever its number."""
    found = numbers(data["groups"], "<i2", -1)[frame]
    return {tuple(np.flatnonzero(found == group)) for group in set(found.tolist()) - {-1}}


def test_a_step_is_a_step_of_the_view():
    graphs = {0: layers(1), 1500: layers(2), 3000: layers(3)}
    _, nearest, flow = step_sections(graphs, Letters())
    data = view(graphs)
    assert data["steps"] == ["step 0", "step 1,500", "step 3,000"] and data["layers"][-1] == "layer 3"
    assert data["labels"] == [f" <{token}>" for token in range(TOKENS)]
    active = torch.stack([graph.active for steps in graphs.values() for graph in steps]).numpy()
    assert (numbers(data["active"], "u1", 9) == active).all() and 0 < active[-1].sum() < TOKENS
    for packed, graph in zip(data["edges"], [graph for steps in graphs.values() for graph in steps], strict=True):
        starts = np.frombuffer(b64decode(packed["starts"]), "<u4")
        assert starts[-1] == (graph.edge_index[0] != graph.edge_index[1]).sum() > 0
    assert len(nearest.body.layout.updatemenus[0].buttons) == TOKENS
    assert list(nearest.body.data[0].header["values"])[-1] == "<b>step 3,000</b>"
    assert {layer for layer, _ in flow.body.data[0].node.customdata} == {0, 1, 2}


def test_a_step_owes_its_clusters_to_no_other():
    """A token that left early keeps the edges of a layer before, not those of steps ago."""
    last = layers(3)
    drawn = [view({0: layers(seed), 1: last}) for seed in (1, 2, 5)]
    first, *others = (groups(data, 3) for data in drawn)
    assert len(first) > 1 and all(other == first for other in others)
    assert all(groups(data, frame) == first for data in drawn for frame in (4, 5))


def test_steps_without_numbers_are_left_out():
    broken = layers(2)
    broken[-1].x = broken[-1].x * torch.nan
    assert step_sections({0: layers(1), 1: broken}, Letters()) == [] == step_sections({}, Letters())
    assert view({0: layers(1), 1: layers(2), 2: broken})["steps"] == ["step 0", "step 1"]


def test_a_passage_of_one_token():
    model = TMTModel(tiny_config()).eval()
    data = view({step: model.layer_graphs(torch.tensor([[step]])) for step in (0, 1)})
    assert data["steps"] == ["step 0", "step 1"] and len(data["labels"]) == 1


def test_the_passage_is_the_beginning_of_the_first_text_that_is_long_enough():
    tokenizer = train_tokenizer(["the fox of the dogs"], vocab_size=257)  # a token a byte

    def texts():
        yield from ("ab", "abcd" * 100, "abcdefgh")
        raise AssertionError("read on")

    assert tokenizer.decode(first_tokens(texts(), tokenizer, 6)) == "abcdab"
    assert tokenizer.decode(first_tokens(["a", "abc", "xyz"], tokenizer, 6)) == "abc"
