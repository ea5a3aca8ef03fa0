import pytest
import torch
from torch_geometric.data import Batch

from tmt_geo.data import text_loader, text_to_data

TEXTS = ["a short text", "word", "another text, of another length\n"]


def test_nodes_are_the_tokens_in_order(tokenizer):
    data = text_to_data(TEXTS[0], tokenizer)
    assert tokenizer.decode(data.input_ids) == TEXTS[0]
    assert data.num_nodes == len(data.input_ids) and data.num_edges == 0
    assert data.input_ids.dtype == data.time.dtype == torch.long
    assert data.time.tolist() == list(range(data.num_nodes))
    assert data.validate()


def test_max_length_keeps_the_start(tokenizer):
    whole, short = text_to_data(TEXTS[2], tokenizer), text_to_data(TEXTS[2], tokenizer, max_length=4)
    assert short.num_nodes == 4
    assert short.input_ids.equal(whole.input_ids[:4])


def test_batch_and_back(tokenizer):
    graphs = [text_to_data(text, tokenizer) for text in TEXTS]
    batch = Batch.from_data_list(graphs)
    assert batch.input_ids.equal(torch.cat([graph.input_ids for graph in graphs]))
    assert batch.time.equal(torch.cat([graph.time for graph in graphs]))
    assert batch.batch.bincount().tolist() == [graph.num_nodes for graph in graphs]
    for graph, back in zip(graphs, batch.to_data_list(), strict=True):
        assert back.to_dict().keys() == graph.to_dict().keys()
        assert back.input_ids.equal(graph.input_ids) and back.time.equal(graph.time)
        assert back.num_nodes == graph.num_nodes


def test_loader_covers_every_text_once(tokenizer):
    loader = text_loader(TEXTS, tokenizer, batch_size=2, max_length=5, shuffle=True)
    graphs = [graph for batch in loader for graph in batch.to_data_list()]
    assert [batch.num_graphs for batch in loader] == [2, 1]
    expected = [text_to_data(text, tokenizer, max_length=5).input_ids.tolist() for text in TEXTS]
    assert sorted(graph.input_ids.tolist() for graph in graphs) == sorted(expected)


def test_bad_arguments_are_named(tokenizer):
    with pytest.raises(ValueError, match=r"^'text' must hold at least one token \(got ''\)$"):
        text_to_data("", tokenizer)
    with pytest.raises(ValueError, match=r"^'max_length' must be at least 1 \(got 0\)$"):
        text_to_data("text", tokenizer, max_length=0)
    with pytest.raises(ValueError, match=r"^'batch_size' must be at least 1 \(got 0\)$"):
        text_loader(TEXTS, tokenizer, batch_size=0)
    with pytest.raises(ValueError, match=r"^'texts' must be a list of documents"):
        text_loader("text", tokenizer)
