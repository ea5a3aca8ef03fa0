"""Where the language model drops in training: the embedding, what each part adds, attention weights, hidden units."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from tmt_geo.models import TMTConfig, TMTModel

TOKENS, CHANNELS, STREAM = 3 * 12, 16, 20


@pytest.mark.parametrize("anchors", [0, 3])
def test_every_part_is_dropped_once_in_training_and_nothing_in_use(monkeypatch, anchors):
    dropped, plain = [], F.dropout

    def dropout(x, p=0.5, training=True, inplace=False):
        if training and p:
            dropped.append((p, tuple(x.shape)))
        return plain(x, p, training, inplace)

    sizes = {"vocab_size": 31, "d_model": CHANNELS, "n_heads": 2, "n_layers": 2, "max_seq_len": 12, "graph_k": 2}
    options = {"window": 2, "gated_streams": False, "ffn_stream_dim": STREAM, "exit": False, "memory_anchors": anchors}
    model, ids = TMTModel(TMTConfig(**sizes, **options, dropout=0.3)), torch.randint(31, (3, 12))
    monkeypatch.setattr(F, "dropout", dropout)
    model.train()(ids)
    embedding, branches = 1, 2 + (anchors > 0)
    assert Counter(dropped) == {
        (0.3, (TOKENS, CHANNELS)): embedding + 2 * branches,
        (0.3, (TOKENS, 2 * STREAM)): 2,
        (0.3, (TOKENS, 2 + 2 + 1, 2)): 2,
    }
    model.eval()(ids)
    assert len(dropped) == embedding + 2 * (branches + 2)
