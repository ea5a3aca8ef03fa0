"""A prediction taken apart: the parts are those of plain loops in float64, and add up to what the model says."""

import math

import pytest
import torch

from tmt_geo import TMTModel
from tmt_geo.evaluate import prediction_parts
from tmt_geo.testing.tiny import VOCAB, lively, tiny_config

LENGTH = 24


def made(**options):
    torch.manual_seed(5)
    return lively(TMTModel(tiny_config(**{"copy_k": 4, "copy_dim": 8, "copy_memory": 10, **options}))).double()


def texts(*lengths):
    """Texts of few kinds of tokens, so that much is voted for twice."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(7, (1, length), generator=generator) for length in lengths]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(row):
    length = math.sqrt(dot(row, row))
    return [x / length for x in row]


def copying(model, states, token, index=(), remembered=()):
    """The share of copying of the last state, and its votes as weights of places, by loops over the formula.

    `states` are lists of the text, `index` and `remembered` the features and tokens of before it.
    """
    head = model.copy_head
    weight, gate = head.lin_index.weight.tolist(), head.lin_gate
    z = [*index, *(unit([dot(row, state) for row in weight]) for state in states)]
    scale = math.exp(head.log_scale.item())
    scores = sorted(((scale * dot(z[-1], z[j]), j) for j in range(len(z) - 1)), reverse=True)[: head.k]
    total = sum(math.exp(score) for score, _ in scores)
    logit = dot(gate.weight[0].tolist(), states[-1]) + gate.bias.item()
    if head.sentinel:
        logit += math.log(total) - scale
    return 1 / (1 + math.exp(-logit)), {j + 1: math.exp(score) / total for score, j in scores}


def vocabulary(model, state):
    logits = [dot(row, state) for row in model.lm_head.weight.tolist()]
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


@pytest.mark.parametrize("options", [
    {}, {"copy_sentinel": False}, {"window": 0}, {"exit": False, "window": 5}, {"mesh": False},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize("position", [1, 13, LENGTH - 1, -3])
def test_the_parts_are_those_of_loops_and_add_up(options, with_memory, position):
    model = made(**options)
    before, ids = texts(17, LENGTH)
    with torch.no_grad():
        memory = model(before, use_cache=False).copy_memory if with_memory else None
        out = model(ids, copy_memory=memory)
    parts = prediction_parts(model, ids, position, memory)

    end = position % LENGTH + 1
    states = out.last_hidden_state[0, :end].tolist()
    index = memory.index[0, -10:].tolist() if with_memory else []
    token = [*(before[0, -10:].tolist() if with_memory else []), *ids[0, :end].tolist()]
    share, votes = copying(model, states, token, index)
    own = vocabulary(model, states[-1])

    assert parts.tokens.tolist() == token and parts.remembered == len(index)
    assert parts.share == pytest.approx(share, rel=1e-9)
    assert [vote.weight for vote in parts.votes] == sorted((vote.weight for vote in parts.votes), reverse=True)
    assert dict(parts.votes) == pytest.approx(votes, rel=1e-9)
    assert parts.vocabulary.tolist() == pytest.approx(own, rel=1e-9)
    mixture = [(1 - share) * p for p in own]
    copied = [0.0] * VOCAB
    for place, weight in votes.items():
        copied[token[place]] += weight
        mixture[token[place]] += share * weight
    assert parts.copied.tolist() == pytest.approx(copied, rel=1e-9)
    assert parts.prob.tolist() == pytest.approx(mixture, rel=1e-9)
    assert parts.prob.tolist() == pytest.approx(out.logits[0, end - 1].softmax(-1).tolist(), rel=1e-9)
    assert sum(mixture) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("position", [0, 9, LENGTH - 1])
@pytest.mark.parametrize("window", [0, 3])
def test_neighbors_are_the_edges_of_all_layers(position, window):
    """Oracle: a loop over the edges of the whole text's layers."""
    model, (ids,) = made(window=window), texts(LENGTH)
    wanted = {}
    for layer, graph in enumerate(model.layer_graphs(ids)):
        for source, target, weight in zip(*graph.edge_index.tolist(), graph.attention.tolist(), strict=True):
            if target == position != source:
                wanted.setdefault(source, [0.0] * 3)[layer] = sum(weight) / len(weight)
    parts = prediction_parts(model, ids, position)
    assert {each.place for each in parts.neighbors} == set(wanted)
    assert all(each.weights == pytest.approx(wanted[each.place], rel=1e-9) for each in parts.neighbors)
    assert {each.place for each in parts.neighbors if each.window} == set(range(max(position - window, 0), position))
    sums = [sum(each.weights) for each in parts.neighbors]
    assert sums == sorted(sums, reverse=True) and (sums or position == 0)


def test_neighbors_stand_behind_what_is_remembered():
    model = made()
    before, ids = texts(17, LENGTH)
    memory = model(before, use_cache=False).copy_memory
    parts, alone = prediction_parts(model, ids, 12, memory), prediction_parts(model, ids, 12)
    assert [each.place - 10 for each in parts.neighbors] == [each.place for each in alone.neighbors]
    assert any(vote.place < parts.remembered for vote in parts.votes)


def test_the_first_token_and_a_model_without_a_copy_head_copy_nothing():
    ids = texts(LENGTH)[0]
    first, bare = prediction_parts(made(), ids, 0), prediction_parts(made(copy_k=0), ids)
    for parts in (first, bare):
        assert parts.votes == [] and parts.share == 0 and not parts.copied.any()
        assert torch.equal(parts.prob, parts.vocabulary) or torch.allclose(parts.prob, parts.vocabulary, atol=1e-15)
    assert first.neighbors == [] and bare.neighbors
    assert prediction_parts(made(mesh=False), ids).neighbors == []


def test_nothing_later_has_a_part_in_it_and_the_mode_is_left_alone():
    model, (ids,) = made(dropout=0.5).train(), texts(LENGTH)
    other = ids.clone()
    other[:, 12:] = 8
    a, b = (prediction_parts(model, text, 11) for text in (ids, other))
    assert torch.equal(a.prob, b.prob) and a.votes == b.votes and a.neighbors == b.neighbors
    assert model.training and all(module.training for module in model.modules())


@pytest.mark.parametrize(("shape", "position", "said"), [
    ((5,), -1, r"'input_ids' must be one text, \(1, S\) \(got \(5,\)\)"),
    ((2, 5), -1, r"'input_ids' must be one text, \(1, S\) \(got \(2, 5\)\)"),
    ((1, 5), 5, r"'position' must be one of 5 tokens, -5 to 4 \(got 5\)"),
    ((1, 5), -6, r"'position' must be one of 5 tokens, -5 to 4 \(got -6\)"),
])  # fmt: skip
def test_errors(shape, position, said):
    with pytest.raises(ValueError, match=said):
        prediction_parts(made(), torch.zeros(shape, dtype=torch.long), position)
