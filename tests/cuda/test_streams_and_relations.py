"""Relational attention and the multi-stream transformer on every device, in two types, against float64."""

import pytest
import torch

from tmt_geo.models.quartic.multi_stream_transformer import MultiStreamTransformer
from tmt_geo.models.quartic.relational_transformer import RelationalTransformer
from tmt_geo.nn.conv.relational_attention import RelationalAttention
from tmt_geo.nn.relational_layer import RelationalLayer
from tmt_geo.ops.stream_diversity import stream_diversity_loss
from tmt_geo.testing import assert_precise

N, E, F, D = 9, 30, 8, 6
SIZES = {"num_tokens": 11, "dim": F, "depth": 2, "dim_head": 4, "heads": 2, "max_seq_len": 16}
causal_or_not = pytest.mark.parametrize("causal", [False, True])


def graph():
    features = {"x": torch.randn(N, F, dtype=torch.float64), "edge_attr": torch.randn(E, D, dtype=torch.float64)}
    return features | {"edge_index": torch.randint(N, (2, E))}


def tokens():
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, :2] = False
    return {"ids": torch.randint(11, (2, 7)), "mask": mask}


def test_relational_attention(device, dtype):
    conv = RelationalAttention(F, 4, heads=2, edge_dim=D)
    assert_precise(lambda conv, **inputs: conv(**inputs), graph(), device, dtype, module=conv)


@causal_or_not
def test_a_relational_layer(device, dtype, causal):
    layer, inputs = RelationalLayer(F, D, 2, causal=causal), graph() | {"time": torch.randperm(N)}
    for part in (0, 1):
        assert_precise(
            lambda layer, i=part, **inputs: layer(**inputs)[i], inputs, device, dtype, module=layer, times=16
        )


@causal_or_not
def test_the_relational_transformer(device, dtype, causal):
    model = RelationalTransformer(**SIZES, dim_edges=D, causal=causal)
    assert_precise(lambda model, ids, mask: model(ids, mask), tokens(), device, dtype, module=model, times=16)


@causal_or_not
@pytest.mark.parametrize("options", [{}, {"non_linear_talking_heads": True}, {"separate_stream_emb": False}], ids=str)
def test_the_multi_stream_transformer(device, dtype, causal, options):
    model = MultiStreamTransformer(**SIZES, num_streams=3, causal=causal, **options)
    with torch.no_grad():
        for parameter in model.emb.parameters():
            parameter.normal_()
    assert_precise(lambda model, ids, mask: model(ids, mask), tokens(), device, dtype, module=model, times=16)


def test_the_diversity_loss(device, dtype):
    inputs = {"scores": torch.randn(2, 3, 2, 5, 5, dtype=torch.float64), "mask": torch.rand(2, 5) < 0.8}
    assert_precise(
        lambda scores, mask: stream_diversity_loss(scores.softmax(-1), mask), inputs, device, dtype, times=16
    )
