import re

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


def nodes(figure, frame):
    return figure.frames[frame].data[3]


def groups(trace):
    """The tokens that share a cluster, whatever its number."""
    numbers = [re.match(r"cluster (\d+)|no cluster", text)[1] for text in trace.hovertext]
    return {tuple(np.flatnonzero([number == other for other in numbers])) for number in numbers if number is not None}


def edges(figure, frame):
    return sum(np.isnan(trace.x).sum() for trace in figure.frames[frame].data[:3])


def test_a_frame_is_a_step():
    graphs = {0: layers(1), 1500: layers(2), 3000: layers(3)}
    mesh, nearest, flow = step_sections(graphs, Letters())
    assert [frame.name for frame in mesh.body.frames] == ["step 0", "step 1,500", "step 3,000"]
    assert list(mesh.body.data[3].text) == [f" &lt;{token}&gt;" for token in range(TOKENS)]
    assert len(nearest.body.layout.updatemenus[0].buttons) == TOKENS
    assert {layer for layer, _ in flow.body.data[0].node.customdata} == {0, 1, 2}
    for frame, step in enumerate(graphs):
        active = graphs[step][-1].active.numpy()
        assert 0 < active.sum() < TOKENS
        assert np.array_equal(nodes(mesh.body, frame).marker.symbol == 0, active)  # filled: reached the last layer


def test_each_token_is_drawn_with_its_last_edges():
    graphs = {0: layers(1), 1: layers(2)}
    mesh = step_sections(graphs, Letters())[0].body
    for frame, steps in enumerate(graphs.values()):
        last = torch.stack([graph.active for graph in steps]).sum(0) - 1
        count = [
            ((graph.edge_index[0] != graph.edge_index[1]) & (last[graph.edge_index[1]] == layer)).sum().item()
            for layer, graph in enumerate(steps)
        ]
        assert count[0] > 0 and count[-1] > 0
        assert edges(mesh, frame) == sum(count)


def test_a_step_owes_its_clusters_to_no_other():
    """A token that left early keeps the edges of a layer before, not those of steps ago."""
    last = layers(3)
    drawn = [groups(nodes(step_sections({0: layers(seed), 1: last}, Letters())[0].body, 1)) for seed in (1, 2, 5)]
    assert len(drawn[0]) > 1 and drawn[0] == drawn[1] == drawn[2]


def test_steps_without_numbers_are_left_out():
    broken = layers(2)
    broken[-1].x = broken[-1].x * torch.nan
    assert step_sections({0: layers(1), 1: broken}, Letters()) == [] == step_sections({}, Letters())
    mesh = step_sections({0: layers(1), 1: layers(2), 2: broken}, Letters())[0].body
    assert [frame.name for frame in mesh.frames] == ["step 0", "step 1"]


def test_a_passage_of_one_token():
    model = TMTModel(tiny_config()).eval()
    mesh, *_ = step_sections({step: model.layer_graphs(torch.tensor([[step]])) for step in (0, 1)}, Letters())
    assert len(mesh.body.frames) == 2


def test_the_passage_is_the_beginning_of_the_first_text_that_is_long_enough():
    tokenizer = train_tokenizer(["the fox of the dogs"], vocab_size=257)  # a token a byte

    def texts():
        yield from ("ab", "abcd" * 100, "abcdefgh")
        raise AssertionError("read on")

    assert tokenizer.decode(first_tokens(texts(), tokenizer, 6)) == "abcdab"
    assert tokenizer.decode(first_tokens(["a", "abc", "xyz"], tokenizer, 6)) == "abc"
