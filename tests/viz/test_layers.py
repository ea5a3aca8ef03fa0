import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch_geometric.data import Data
from transformers import PreTrainedTokenizerFast

from tmt_geo.viz import passage_of, token_labels
from tmt_geo.viz.explore_data import word_starts
from tmt_geo.viz.layers import active_nodes, check_graphs, layer_names, node_labels


def test_tokens_are_named_by_the_tokenizer(text):
    labels = token_labels(text.graphs, text.tokenizer)
    assert labels == [f" <{index}>" for index in text.ids[0].tolist()]


def test_white_space_of_tokens_is_visible(text):
    class Blank:
        def decode(self, ids):
            return "\n"

    assert set(token_labels(text.graphs, Blank())) == {"↵"}


@pytest.mark.parametrize("kind", ["WordPiece", "Metaspace", "ByteLevel"])
def test_labels_of_any_tokenizer_make_the_text_and_part_its_words(kind):
    text = "the walking banker is walking on the bank"
    tokenizer = Tokenizer(models.BPE())
    if kind == "WordPiece":
        words = {word: i for i, word in enumerate(["?", "the", "walk", "##ing", "bank", "##er", "is", "on"])}
        tokenizer = Tokenizer(models.WordPiece(words, unk_token="?"))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    else:
        tokenizer.pre_tokenizer = getattr(pre_tokenizers, kind)()
        tokenizer.decoder = getattr(decoders, kind)()
        tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=40))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    ids = wrapped(text, return_tensors="pt").input_ids[0]
    graph = Data(x=torch.ones(len(ids), 1), edge_index=torch.zeros(2, 0).long(), input_ids=ids)
    labels = token_labels([graph], wrapped)
    assert "".join(labels).strip() == text
    assert sum(word_starts(labels)) == len(text.split())


def test_nodes_without_text_are_named_by_number_and_class(nodes):
    assert node_labels(nodes)[:4] == ["0: 0", "1: 1", "2: 2", "3: 0"]
    assert node_labels([Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long())]) == ["0", "1"]


def test_a_class_of_the_whole_graph_is_no_class_of_a_node():
    graph = Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long(), y=torch.tensor([1]))
    assert node_labels([graph]) == ["0", "1"]


def test_layers_are_numbered_from_one(nodes):
    assert layer_names(nodes) == ["layer 1", "layer 2", "layer 3"]
    assert layer_names(nodes, ["a", "b", "c"]) == ["a", "b", "c"]


def test_active_nodes_are_those_of_the_model(text):
    assert torch.equal(active_nodes(text.graphs), ~text.out.exit_masks[:, 0])


def test_layers_that_do_not_say_computed_all():
    graph = Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long())
    assert active_nodes([graph, graph]).all()


def test_the_passage_counts_the_layers_of_each_token(text):
    passage = passage_of(text.graphs, token_labels(text.graphs, text.tokenizer), source="here")
    assert passage.depth == (~text.out.exit_masks[:, 0]).sum(0).tolist()
    assert passage.num_layers == 3 and passage.source == "here" and len(set(passage.depth)) > 1


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ([], "at least one layer"),
        ([Data(x=torch.ones(2, 1))], "'x' and 'edge_index'"),
        ([Data(x=torch.ones(n, 1), edge_index=torch.zeros(2, 0).long()) for n in (2, 3)], r"same nodes.*\[2, 3\]"),
        ([Data(x=torch.ones(0, 1), edge_index=torch.zeros(2, 0).long())], "at least one"),
    ],
)
def test_layers_that_do_not_fit_are_refused(graphs, message):
    with pytest.raises(ValueError, match=f"'graphs' needs.*{message}"):
        check_graphs(graphs)


def test_names_and_labels_that_do_not_fit_are_refused(nodes):
    with pytest.raises(ValueError, match=r"'labels' needs one entry a node, 14 \(got 1\)"):
        node_labels(nodes, ["a"])
    with pytest.raises(ValueError, match=r"'names' needs one entry a layer, 3 \(got 1\)"):
        layer_names(nodes, ["a"])
    with pytest.raises(ValueError, match="'names' needs another name for each layer"):
        layer_names(nodes, ["a", "b", "a"])
    with pytest.raises(ValueError, match="'graphs' needs 'input_ids'"):
        token_labels(nodes, None)
